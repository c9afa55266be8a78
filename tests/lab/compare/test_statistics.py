"""Intervals and tests: against published values, against scipy, and by simulation of what they promise."""

import warnings

import numpy as np
import pytest
from scipy import stats

from minigpt.lab.compare.statistics import difference, estimate, holm

# Student's sleep data (1908), the example of R's t.test, with what R prints for it.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def seeded(values: list[float], first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, start=first))


def test_mean_and_interval_as_scipy_has_them() -> None:
    found = estimate(DRUG_1)
    low, high = stats.t.interval(0.95, 9, loc=np.mean(DRUG_1), scale=stats.sem(DRUG_1))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert estimate([1.0, 2.0]).half_width == pytest.approx(12.7062 * 0.5, rel=1e-5)  # the t of one degree of freedom
    assert estimate([1.0, 1.0, 1.0]).half_width == 0


def test_one_seed_has_no_interval() -> None:
    assert estimate([1.5]).half_width is None
    found = difference({1: 1.5}, {1: 1.0, 2: 1.1}, one_model=True)
    assert (found.half_width, found.p) == (None, None)
    assert found.difference == pytest.approx(0.45)


def test_welch_as_r_prints_it() -> None:
    found = difference(seeded(DRUG_1), seeded(DRUG_2), one_model=False)
    assert found.method == "Welch"
    assert difference(seeded(DRUG_1), seeded(DRUG_2, first=100), one_model=True) == found  # no seed is shared
    assert found.p == pytest.approx(0.07939, abs=5e-6)
    assert found.difference - found.half_width == pytest.approx(-3.3654832, abs=5e-8)
    assert found.difference + found.half_width == pytest.approx(0.2054832, abs=5e-8)


def test_pairs_as_r_prints_them() -> None:
    mixed = dict(reversed(seeded(DRUG_2).items()))
    found = difference(seeded(DRUG_1), mixed, one_model=True)
    assert found.method == "paired"
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.difference - found.half_width == pytest.approx(-2.4598858, abs=5e-8)
    assert found.difference + found.half_width == pytest.approx(-0.7001142, abs=5e-8)


def test_two_pairs_are_too_few() -> None:
    assert difference({1: 1.5, 2: 1.6}, {1: 1.0, 2: 1.2}, one_model=True).method == "Welch"


def test_holm_as_r_prints_it() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_values_that_no_seed_changes() -> None:
    shifted = difference({1: 2.1, 2: 2.2, 3: 2.3}, {1: 1.1, 2: 1.2, 3: 1.3}, one_model=True)  # but for rounding
    assert (shifted.difference, shifted.half_width) == (pytest.approx(1.0), None)
    for one_model in (True, False):
        found = difference(dict.fromkeys((1, 2, 3), 2.0), dict.fromkeys((1, 2, 3), 1.0), one_model=one_model)
        assert (found.difference, found.half_width, found.p) == (1.0, None, None)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_interval_holds_the_truth_in_95_percent(n: int) -> None:
    draws = np.random.default_rng(n).normal(2.0, 0.01, size=(3000, n))
    found = [estimate(list(row)) for row in draws]
    held = np.mean([abs(each.mean - 2.0) <= each.half_width for each in found])
    assert held == pytest.approx(0.95, abs=0.013)  # three standard errors of a share of 3000


@pytest.mark.parametrize(("n", "shared"), [(3, 0.0), (3, 0.7), (6, 0.0), (6, 0.7)])
@pytest.mark.parametrize("one_model", [True, False])
def test_difference_of_nothing_is_claimed_in_5_percent_at_most(n: int, shared: float, one_model: bool) -> None:
    """Whether what a seed changes is shared by the two groups or not; with spreads that differ, too."""
    generator = np.random.default_rng(n)
    claims, held = 0, 0
    for _ in range(1500):
        common = generator.normal(size=n)
        mine, theirs = (
            2 + spread * (np.sqrt(shared) * common + np.sqrt(1 - shared) * generator.normal(size=n))
            for spread in (0.01, 0.015)
        )
        found = difference(seeded(list(mine)), seeded(list(theirs)), one_model=one_model)
        claims += found.p < 0.05
        held += abs(found.difference) <= found.half_width
    assert claims / 1500 < 0.05 + 0.017
    assert held / 1500 > 0.95 - 0.017


def test_many_comparisons_claim_nothing_in_95_percent() -> None:
    generator = np.random.default_rng(5)
    families = 0
    for _ in range(400):
        base, *others = (seeded(list(generator.normal(2, 0.01, size=3))) for _ in range(6))
        families += min(holm([difference(other, base, one_model=False).p for other in others])) < 0.05
    assert families / 400 < 0.05 + 0.033


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(8)
    found = [
        difference(*(seeded(list(generator.normal(mean, 0.01, size=3))) for mean in (1.95, 2.0)), one_model=False)
        for _ in range(200)
    ]
    assert np.mean([each.p < 0.05 for each in found]) > 0.9
    assert np.mean([each.difference for each in found]) == pytest.approx(-0.05, abs=0.002)


def test_values_of_one_side_that_are_all_the_same() -> None:
    """No warning of scipy's goes to the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = difference({1: 1.9, 2: 1.9, 3: 1.9}, {1: 2.01, 2: 2.02, 3: 2.03}, one_model=False)
    assert found.difference == pytest.approx(-0.12)
    assert found.p is not None

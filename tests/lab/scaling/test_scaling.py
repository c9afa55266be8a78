"""Known coefficients come back from synthetic losses; too little is refused; what is unsure is said to be."""

import math

import numpy as np
import pytest

from minigpt.errors import DataError
from minigpt.lab.scaling.fits import Point, _Logs, _objective, fit_scaling
from minigpt.lab.scaling.isoflop import frontier, parabolas
from minigpt.lab.scaling.law import PUBLISHED, Law
from minigpt.lab.scaling.text import parabola_lines

SMALL = Law(E=1.5, A=80.0, B=300.0, alpha=0.35, beta=0.4)


def grid(
    law: Law, noise: float = 0.0, budgets: tuple[float, ...] = (1e12, 3e12, 1e13, 3e13), sizes: int = 5
) -> list[Point]:
    """`sizes` runs of each budget around its best one, their log losses off by normal noise."""
    random = np.random.default_rng(7)
    points = []
    for flops in budgets:
        best, _ = law.optimum(flops)
        for factor in np.geomspace(0.25, 4, sizes):
            n = best * factor
            d = flops / 6 / n
            loss = law.loss(n, d) * math.exp(random.normal(0, noise))
            points.append(Point(name=f"{flops:g}-{factor:g}", n_parameters=n, n_tokens=d, flops=flops, loss=loss))
    return points


@pytest.mark.parametrize("law", [SMALL, PUBLISHED.law], ids=["small", "published"])
def test_known_coefficients_come_back(law: Law) -> None:
    budgets = (1e12, 3e12, 1e13, 3e13) if law is SMALL else (1e19, 1e20, 1e21, 1e22)
    fit = fit_scaling(grid(law, budgets=budgets), bootstraps=0)
    assert pytest.approx(law.E, rel=0.01) == fit.law.E
    assert fit.law.alpha == pytest.approx(law.alpha, rel=0.02)
    assert fit.law.beta == pytest.approx(law.beta, rel=0.02)
    assert pytest.approx(law.A, rel=0.2) == fit.law.A  # N^alpha multiplies it: of the error of alpha 13 times as much
    assert fit.residual < 1e-4
    assert fit.flops_per_pair == pytest.approx(6)
    assert fit.optimum(1e13)[0] == pytest.approx(law.optimum(1e13)[0], rel=0.02)


def test_intervals_hold_the_truth_and_grow_with_the_noise() -> None:
    quiet, loud = (fit_scaling(grid(SMALL, noise), bootstraps=40) for noise in (0.001, 0.01))
    for fit in (quiet, loud):
        assert fit.exponent_interval().low < SMALL.beta / (SMALL.alpha + SMALL.beta) < fit.exponent_interval().high
    assert loud.optimum_interval(1e14).ratio() > quiet.optimum_interval(1e14).ratio() > 1
    best = SMALL.optimum(1e14)
    interval = loud.loss_interval(*best)
    assert interval.low < SMALL.loss(*best) < interval.high


def test_the_order_of_the_runs_changes_nothing() -> None:
    points = grid(SMALL, 0.01, sizes=4)
    assert fit_scaling(points, bootstraps=5) == fit_scaling(points[::-1], bootstraps=5)


def test_one_run_gone_wrong_hardly_moves_the_fit() -> None:
    points = grid(SMALL)
    points[3] = Point(**{**vars(points[3]), "loss": points[3].loss * 1.3})
    assert fit_scaling(points, bootstraps=0).law.alpha == pytest.approx(SMALL.alpha, rel=0.05)


def test_the_gradient_is_the_slope() -> None:
    logs = _Logs.of(grid(SMALL, 0.05))
    guess = np.array([0.1, 0.2, 0.5, 0.3, 0.4])
    _, gradient = _objective(guess, logs)
    for index, step in enumerate(np.eye(5) * 1e-6):
        slope = (_objective(guess + step, logs)[0] - _objective(guess - step, logs)[0]) / 2e-6
        assert gradient[index] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("points", [grid(SMALL)[:5], grid(SMALL, sizes=1, budgets=(1e12,)) * 8, []])
def test_too_little_is_refused(points: list[Point]) -> None:
    with pytest.raises(
        DataError, match=r"needs 6 finished runs or more, of 3 sizes and 3 numbers of tokens: there are"
    ):
        fit_scaling(points)


def test_the_optimum_is_the_lowest_loss_of_its_budget() -> None:
    n, d = SMALL.optimum(1e13)
    assert 6 * n * d == pytest.approx(1e13)
    best = SMALL.loss(n, d)
    assert all(SMALL.loss(n * factor, d / factor) > best for factor in (0.5, 0.9, 1.1, 2))
    assert SMALL.optimum(1e13, 12)[0] == pytest.approx(SMALL.optimum(5e12, 6)[0])


def test_published_optimum_is_about_twenty_tokens_a_parameter() -> None:
    """Besiroglu et al. 2024, abstract: the law agrees with the other approaches, 20 tokens a parameter."""
    n, d = PUBLISHED.law.optimum(5.76e23)  # Chinchilla's budget: 70B parameters and 1.4T tokens
    assert 15 < d / n < 25
    assert 50e9 < n < 90e9


def test_parabolas_find_the_best_size_of_each_budget() -> None:
    found = parabolas(grid(SMALL, noise=0.0005))
    assert [round(math.log10(each.flops), 1) for each in found] == [12.0, 12.5, 13.0, 13.5]
    for each in found:
        best = SMALL.optimum(each.flops)[0]
        assert each.is_inside
        assert each.best_parameters == pytest.approx(best, rel=0.15)
        assert each.interval.low < each.best_parameters < each.interval.high
        assert each.best_loss == pytest.approx(float(each.loss(np.array([each.best_parameters]))[0]))
    line = frontier(found)
    assert line is not None
    assert line.exponent == pytest.approx(SMALL.beta / (SMALL.alpha + SMALL.beta), abs=0.03)
    assert line.parameters(found[0].flops) == pytest.approx(found[0].best_parameters, rel=0.1)


def test_a_best_size_outside_of_what_was_tried_is_said_to_be() -> None:
    points = [point for point in grid(SMALL, sizes=9) if point.n_parameters < 0.9 * SMALL.optimum(point.flops)[0]]
    assert not any(each.is_inside for each in parabolas(points))
    assert frontier(parabolas(points)) is None


def test_three_sizes_leave_no_interval() -> None:
    found = parabolas(grid(SMALL, sizes=3))
    assert all(each.freedom == 0 and not each.interval.is_bounded for each in found)
    assert parabola_lines(found[:1], None)[0].endswith("(three runs: no interval)")


def budgets_around_the_best(random: np.random.Generator, sizes: int, noise: float, flops: list[float]) -> list[Point]:
    """Runs whose losses are parabolas of log N, as the fit takes them to be, off by normal noise."""
    points = []
    for budget in flops:
        best = SMALL.optimum(budget)[0]
        for n in best * math.exp(random.uniform(-0.4, 0.4)) * np.geomspace(0.25, 4, sizes):
            loss = 2 + 0.05 * math.log(n / best) ** 2 + random.normal(0, noise)
            points.append(Point(name="", n_parameters=n, n_tokens=budget / 6 / n, flops=budget, loss=loss))
    return points


@pytest.mark.parametrize("noise", [0.003, 0.01])
@pytest.mark.parametrize("sizes", [4, 5, 7])
def test_nine_in_ten_intervals_of_the_best_size_hold_it(sizes: int, noise: float) -> None:
    """However few sizes there are; of 400 intervals 360 should, give or take four standard deviations."""
    random, hits, wide = np.random.default_rng(1), 0, 0
    for _ in range(400):
        (found,) = parabolas(budgets_around_the_best(random, sizes, noise, [1e12]))
        hits += found.interval.low <= SMALL.optimum(1e12)[0] <= found.interval.high
        wide += not found.interval.is_bounded
    assert 336 <= hits <= 384
    assert wide <= 120, "an interval without an end holds everything"


@pytest.mark.parametrize("budgets", [3, 5])
def test_nine_in_ten_intervals_of_the_exponent_hold_it(budgets: int) -> None:
    random, hits = np.random.default_rng(2), 0
    for _ in range(400):
        flops = [1e12 * 3**step for step in range(budgets)]
        line = frontier(parabolas(budgets_around_the_best(random, 5, 0.003, flops)))
        assert line is not None
        assert line.exponent_interval is not None
        truth = SMALL.beta / (SMALL.alpha + SMALL.beta)
        hits += line.exponent_interval.low <= truth <= line.exponent_interval.high
    assert 336 <= hits <= 384


def test_two_budgets_leave_the_exponent_no_interval() -> None:
    found = parabolas(grid(SMALL, 0.0005, budgets=(1e12, 1e13)))
    line = frontier(found)
    assert line is not None
    assert line.exponent_interval is None
    assert parabola_lines(found, line)[-1].endswith("(two budgets: no interval)")


def test_losses_that_scatter_too_much_for_a_minimum_are_said_to() -> None:
    """Six runs of three sizes have an interval, or none for another reason than that they are few."""
    noise = np.random.default_rng(3).normal(0, 0.3, 6)
    points = [
        Point(name="", n_parameters=n, n_tokens=1e12 / n, flops=6e12, loss=3 + off + (n == 2e4) * -0.1)
        for n, off in zip([1e4, 2e4, 4e4] * 2, noise, strict=True)
    ]
    (found,) = parabolas(points)
    assert found.freedom == 3
    assert not found.interval.is_bounded
    assert "no interval: 6 runs with so much scatter may have no minimum" in parabola_lines([found], None)[0]


def test_a_budget_of_two_sizes_has_no_parabola() -> None:
    assert parabolas(grid(SMALL, sizes=2)) == []


def test_a_parabola_without_a_minimum_states_no_lowest_loss() -> None:
    falling = [
        Point(name=str(n), n_parameters=n, n_tokens=1e12 / 6 / n, flops=1e12, loss=loss)
        for n, loss in ((1e5, 3.0), (2e5, 2.5), (4e5, 2.2))
    ]
    (line,) = parabola_lines(parabolas(falling), None)
    assert line == "1e12 FLOPs: no minimum within the range of sizes"

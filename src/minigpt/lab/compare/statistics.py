"""Means over seeds with their intervals, and how sure a difference of two is."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
PAIRS_WANTED = 3
"""Two pairs leave one degree of freedom, and an interval that says nothing."""

_ROUNDING = 1e-9
"""Of a value: seeds that change less change nothing. Losses are float32, with seven digits."""

Method = Literal["Welch", "paired"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    half_width: float | None
    """Of its 95 % interval: mean ± half_width; none: of one seed there is no interval."""
    n: int


@dataclass(frozen=True)
class Difference:
    """One mean minus another."""

    difference: float
    half_width: float | None
    """Of its 95 % interval; none: one side has one seed, or nothing varies."""
    p: float | None
    """How often chance alone would make a difference as large, were there none."""
    method: Method


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of `values` and its interval by Student's t with n - 1 degrees of freedom (Student 1908).

    It holds the true mean in 95 % of all experiments if the values are independent and near normal, whatever their
    number from two on.
    """
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Estimate(mean, None, n)
    from scipy import stats

    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    return Estimate(mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error, n)


def difference(ours: Mapping[int, float], theirs: Mapping[int, float], *, one_model: bool) -> Difference:
    """The mean of `ours` minus that of `theirs`, both by seed, with interval and p-value, two-sided.

    By Welch's t-test, which lets the two spreads differ (Welch 1947, "The generalization of 'Student's' problem when
    several different population variances are involved", Biometrika 34). If both sides are `one_model`, trained
    otherwise, and ran the same seeds, three or more: by the t-test of the differences pair by pair. The two runs of a
    seed then begin with the same weights and read the same batches, and what they share drops out (Bouthillier et al.
    2021, "Accounting for variance in machine learning benchmarks").

    Pairs have their price: n - 1 degrees of freedom instead of Welch's 2 n - 2, at three seeds an interval 4.30 / 2.78
    as wide, which only a correlation above 0.58 wins back (de Winter 2013, "Using the Student's t-test with extremely
    small sample sizes"). Over 16 seeds the final losses of one model at two learning rates correlated by 0.82, those of
    learned and rotary positions by 0.06 (benchmarks/seed_pairs.py): the same seed is another draw for another model.
    There Welch's test is the sharper one, and it stays valid: if what pairs share makes them alike, it errs on the side
    of caution. The rule knows seeds and settings and never looks at the losses: whoever took the smaller of two
    p-values would claim too much.
    """
    paired = one_model and ours.keys() == theirs.keys() and len(ours) >= PAIRS_WANTED
    method: Method = "paired" if paired else "Welch"
    ours_values, theirs_values = list(ours.values()), [theirs[seed] for seed in (ours if paired else theirs)]
    gap = float(np.mean(ours_values) - np.mean(theirs_values))
    if min(len(ours), len(theirs)) < 2:
        return Difference(gap, None, None, method)
    varying = np.subtract(ours_values, theirs_values) if paired else [*_centred(ours_values), *_centred(theirs_values)]
    if np.ptp(varying) <= _ROUNDING * np.max(np.abs([*ours_values, *theirs_values])):  # t has no value
        return Difference(gap, None, None, method)
    from scipy import stats

    with warnings.catch_warnings():
        # Of one side whose values are all the same it says that digits were lost; its variance is nought indeed.
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            result = stats.ttest_rel(ours_values, theirs_values)
        else:
            result = stats.ttest_ind(ours_values, theirs_values, equal_var=False)
    low, high = result.confidence_interval(CONFIDENCE)
    return Difference(gap, float(high - low) / 2, float(result.pvalue), method)


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` corrected for being many, in the order given: with none of the differences real, the chance that any
    of them falls below 0.05 is at most 0.05.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6: the
    smallest of m times m, the next times m - 1, ..., none smaller than the one before, none above 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _centred(values: Sequence[float]) -> list[float]:
    return [value - values[0] for value in values]

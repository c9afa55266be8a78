"""Means over seeds with confidence intervals, and tests of their differences."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
PAIRS_WANTED = 3
"""Two pairs leave one degree of freedom, and an interval too wide to use."""

_ROUNDING = 1e-9
"""Relative spread below which seeds are taken to be equal: losses are float32, with seven digits."""

Method = Literal["Welch", "paired"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    half_width: float | None
    """Half the width of the 95 % interval; None for a single seed."""
    n: int


@dataclass(frozen=True)
class Difference:
    """One mean minus another."""

    difference: float
    half_width: float | None
    """Half the width of the 95 % interval; None if one side has a single seed, or if nothing varies."""
    p: float | None
    """Probability of a difference at least as large if there were none."""
    method: Method


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of `values` and its interval by Student's t with n - 1 degrees of freedom (Student 1908).

    It contains the true mean in 95 % of all experiments if the values are independent and near normal, whatever their
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
    """Test the mean of `ours` minus that of `theirs`, both by seed, two-sided, with its interval.

    By Welch's t-test, which lets the two spreads differ (Welch 1947, "The generalization of 'Student's' problem when
    several different population variances are involved", Biometrika 34). If both sides are `one_model`, trained in
    different ways on the same three or more seeds: by the paired t-test. The two runs of a seed then begin with the
    same weights and read the same batches, and their common variation cancels (Bouthillier et al. 2021, "Accounting
    for variance in machine learning benchmarks").

    Pairs have a price: n - 1 degrees of freedom instead of Welch's 2 n - 2, at three seeds an interval 4.30 / 2.78
    as wide, which only a correlation above 0.58 wins back (de Winter 2013, "Using the Student's t-test with extremely
    small sample sizes"). Over 16 seeds the final losses of one model at two learning rates correlated by 0.82, those of
    learned and rotary positions by 0.06 (benchmarks/seed_pairs.py): for another model the same seed is another draw.
    There Welch's test is sharper, and it stays valid: if pairs are correlated, it is conservative. The choice depends
    on seeds and settings, never on the losses: taking the smaller of two p-values would claim too much.
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
        # scipy warns of lost precision if all values of one side are equal; its variance is indeed 0.
        warnings.simplefilter("ignore", RuntimeWarning)
        if paired:
            result = stats.ttest_rel(ours_values, theirs_values)
        else:
            result = stats.ttest_ind(ours_values, theirs_values, equal_var=False)
    low, high = result.confidence_interval(CONFIDENCE)
    return Difference(gap, float(high - low) / 2, float(result.pvalue), method)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct `p_values` for multiple comparisons, in the order given: if no difference is real, the probability that
    any of them falls below 0.05 is at most 0.05.

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

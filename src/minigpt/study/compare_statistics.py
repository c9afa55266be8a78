"""Means over seeds with their intervals, and how sure a difference of two is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
PAIRS_WANTED = 5
"""Pairs from which a difference is tested pair by pair: see `difference`."""

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


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """The mean of `ours` minus that of `theirs`, both by seed, with interval and p-value, two-sided.

    By Welch's t-test, which lets the two spreads differ (Welch 1947, "The generalization of 'Student's' problem when
    several different population variances are involved", Biometrika 34). If both sides ran the same seeds, five of them
    or more, by the t-test of the differences pair by pair: the runs of one seed read the same batches in the same
    order, and what they share drops out (Bouthillier et al. 2021, "Accounting for variance in machine learning
    benchmarks", section 3). Pairs leave n - 1 degrees of freedom of Welch's 2 n - 2, at three seeds a factor of 4.30
    instead of 2.78 on the interval, which only a correlation above 0.58 would win back (de Winter 2013, "Using the
    Student's t-test with extremely small sample sizes"); at five, 0.31. Below five, Welch's test is the sharper one
    and stays valid: if what pairs share makes them alike, it errs on the side of caution. The rule looks at the seeds
    alone and never at the losses: whoever took the smaller of two p-values would claim too much.
    """
    paired = ours.keys() == theirs.keys() and len(ours) >= PAIRS_WANTED
    method: Method = "paired" if paired else "Welch"
    ours_values, theirs_values = list(ours.values()), [theirs[seed] for seed in (ours if paired else theirs)]
    gap = float(np.mean(ours_values) - np.mean(theirs_values))
    if min(len(ours), len(theirs)) < 2:
        return Difference(gap, None, None, method)
    varying = np.subtract(ours_values, theirs_values) if paired else [*_centred(ours_values), *_centred(theirs_values)]
    if np.ptp(varying) == 0:  # the same to the last bit, whatever the seed: t has no value
        return Difference(gap, None, None, method)
    from scipy import stats

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

"""IsoFLOP parabolas: for each budget of FLOPs the size whose loss is the lowest (pure mathematics)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.lab.scaling.fits import Point
from minigpt.lab.scaling.law import Interval

SAME_BUDGET = 0.15
"""Runs whose FLOPs differ by less than this factor above 1 from the first of them have one budget."""
LEAST_SIZES = 3
"""A parabola has three coefficients."""
_UNKNOWN = Interval(0.0, float("inf"))


@dataclass(frozen=True, kw_only=True)
class Parabola:
    """log-quadratic fit of the runs of one budget (Hoffmann et al. 2022, approach 2)."""

    flops: float
    points: tuple[Point, ...]
    coefficients: tuple[float, float, float]
    """Of (log N)^2, log N and 1; the loss in nats."""
    best_parameters: float
    best_loss: float
    interval: Interval
    """Of `best_parameters`; from 0 to infinity where nothing can be said: three runs leave no residual to judge by, and
    losses that scatter much may lie on a line. That the true losses are a parabola of log N is taken for granted."""
    is_inside: bool
    """Whether the lowest point lies between the sizes that were tried."""

    @property
    def freedom(self) -> int:
        """Runs beyond the three coefficients: with none there is no interval."""
        return len(self.points) - LEAST_SIZES

    def loss(self, n_parameters: np.ndarray) -> np.ndarray:
        """Of sizes (k,)."""
        return np.polyval(self.coefficients, np.log(n_parameters))


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """N_opt = N_1 (C / C_1)^exponent through the parabolas' lowest points."""

    exponent: float
    exponent_interval: Interval | None
    """By how far the lowest points lie off the line; None for two of them, through which it goes."""
    scale: float
    """log N_opt at one FLOP."""

    def parameters(self, flops: float) -> float:
        """The best size for so many FLOPs."""
        return float(np.exp(self.scale + self.exponent * np.log(flops)))


def parabolas(points: Sequence[Point]) -> list[Parabola]:
    """One for each budget that has three sizes or more and whose loss is lowest somewhere, cheapest first."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if groups and point.flops <= groups[-1][0].flops * (1 + SAME_BUDGET):
            groups[-1].append(point)
        else:
            groups.append([point])
    found = [_parabola(group) for group in groups if len({p.n_parameters for p in group}) >= LEAST_SIZES]
    return [each for each in found if each is not None]


def frontier(found: Sequence[Parabola]) -> Frontier | None:
    """A line through the lowest points that lie inside; None for fewer than two."""
    inside = [each for each in found if each.is_inside]
    if len(inside) < 2:
        return None
    flops, sizes = np.log([p.flops for p in inside]), np.log([p.best_parameters for p in inside])
    exponent, scale = np.polyfit(flops, sizes, 1)
    interval = None
    if len(inside) > 2:
        covariance = _covariance(np.vander(flops, 2), sizes - np.polyval((exponent, scale), flops))
        off = _quantile(len(inside) - 2) * float(np.sqrt(covariance[0, 0]))
        interval = Interval(float(exponent) - off, float(exponent) + off)
    return Frontier(exponent=float(exponent), exponent_interval=interval, scale=float(scale))


def _parabola(group: Sequence[Point]) -> Parabola | None:
    """None where the fit opens downwards: its lowest point would be the worst."""
    x = np.log([point.n_parameters for point in group])
    y = np.array([point.loss for point in group])
    middle = x.mean()  # powers of log N itself are nearly the same numbers
    fitted = np.polyfit(x - middle, y, 2)
    if fitted[0] <= 0:
        return None
    bottom = middle - fitted[1] / (2 * fitted[0])
    if abs(bottom - middle) > 5 * (x.max() - x.min()):  # as good as a line
        return None
    p2, p1, p0 = fitted
    return Parabola(
        flops=float(np.exp(np.mean(np.log([point.flops for point in group])))),
        points=tuple(group),
        coefficients=(float(p2), float(p1 - 2 * p2 * middle), float(p0 - p1 * middle + p2 * middle**2)),
        best_parameters=float(np.exp(bottom)),
        best_loss=float(np.polyval(fitted, bottom - middle)),
        interval=_bottoms(x - middle, y, fitted, float(middle)),
        is_inside=bool(x.min() <= bottom <= x.max()),
    )


def _bottoms(x: np.ndarray, y: np.ndarray, fitted: np.ndarray, middle: float) -> Interval:
    """Sizes at which the parabola's slope may be 0: no more than t standard errors of the slope away from it.

    The lowest point is a ratio of two coefficients, and this is its exact interval under normal noise, however few the
    runs (Fieller 1954, "Some problems in interval estimation"). Its edges are where (2 p2 z + p1)^2 = t^2 times the
    variance of that slope, a quadratic in z = log N - middle; without two edges the curvature itself may be 0.
    """
    freedom = len(x) - LEAST_SIZES
    if freedom == 0:
        return _UNKNOWN
    p2, p1, _ = fitted
    covariance = _covariance(np.vander(x, 3), y - np.polyval(fitted, x))
    t2 = _quantile(freedom) ** 2
    a, b = 4 * (p2**2 - t2 * covariance[0, 0]), 4 * (p2 * p1 - t2 * covariance[0, 1])
    c = p1**2 - t2 * covariance[1, 1]
    if a <= 0:
        return _UNKNOWN
    root = np.sqrt(max(b**2 - 4 * a * c, 0.0))
    low, high = (-b - root) / (2 * a), (-b + root) / (2 * a)
    return Interval(float(np.exp(middle + low)), float(np.exp(min(middle + high, 500.0))))


def _covariance(columns: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Of the coefficients of a least-squares fit: columns (runs, coefficients), residuals (runs,)."""
    variance = (residuals**2).sum() / (len(residuals) - columns.shape[1])
    return variance * np.linalg.inv(columns.T @ columns)


def _quantile(freedom: int) -> float:
    """Of Student's t, for nine in ten: as few runs say little of their own noise."""
    from scipy import stats

    return float(stats.t.ppf(0.95, freedom))

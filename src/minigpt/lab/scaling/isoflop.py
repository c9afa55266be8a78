"""IsoFLOP parabolas: for each budget of FLOPs the model size with the lowest loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.lab.scaling.fits import Point
from minigpt.lab.scaling.law import Interval

SAME_BUDGET = 0.15
"""Runs whose FLOPs exceed those of the first by at most this share belong to one budget."""
LEAST_SIZES = 3
"""A parabola has three coefficients."""
_UNKNOWN = Interval(0.0, float("inf"))


@dataclass(frozen=True, kw_only=True)
class Parabola:
    """A quadratic fit in log N to the runs of one budget (Hoffmann et al. 2022, approach 2)."""

    flops: float
    points: tuple[Point, ...]
    coefficients: tuple[float, float, float]
    """Coefficients of (log N)^2, log N and 1; the loss in nats."""
    best_parameters: float
    best_loss: float
    interval: Interval
    """Interval of `best_parameters`, assuming that the true losses are a parabola in log N; 0 to infinity if there is
    none: three runs leave no residual, and losses with much scatter may lie on a line."""
    is_inside: bool
    """Whether the minimum lies within the range of sizes."""

    @property
    def freedom(self) -> int:
        """Degrees of freedom: with 0 there is no interval."""
        return len(self.points) - LEAST_SIZES

    def loss(self, n_parameters: np.ndarray) -> np.ndarray:
        """The fitted loss at sizes (k,)."""
        return np.polyval(self.coefficients, np.log(n_parameters))


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """A power law N_opt = N_1 (C / C_1)^exponent through the minima of the parabolas."""

    exponent: float
    exponent_interval: Interval | None
    """From the residuals of the minima; None for two of them."""
    scale: float
    """log N_opt at one FLOP."""

    def parameters(self, flops: float) -> float:
        """The best model size for a budget of FLOPs."""
        return float(np.exp(self.scale + self.exponent * np.log(flops)))


def parabolas(points: Sequence[Point]) -> list[Parabola]:
    """Fit a parabola for each budget with three sizes or more and a minimum, the cheapest budget first."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if groups and point.flops <= groups[-1][0].flops * (1 + SAME_BUDGET):
            groups[-1].append(point)
        else:
            groups.append([point])
    found = [_parabola(group) for group in groups if len({p.n_parameters for p in group}) >= LEAST_SIZES]
    return [each for each in found if each is not None]


def frontier(found: Sequence[Parabola]) -> Frontier | None:
    """Fit a line through the minima that lie inside; None for fewer than two."""
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
    """Fit one budget; None if the parabola opens downwards or is nearly a line."""
    x = np.log([point.n_parameters for point in group])
    y = np.array([point.loss for point in group])
    middle = x.mean()  # centred, as powers of log N are nearly collinear
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
        interval=_minimum_interval(x - middle, y, fitted, float(middle)),
        is_inside=bool(x.min() <= bottom <= x.max()),
    )


def _minimum_interval(x: np.ndarray, y: np.ndarray, fitted: np.ndarray, middle: float) -> Interval:
    """The interval of the minimum: the sizes at which the slope is within t standard errors of 0.

    The minimum is a ratio of two coefficients; under normal noise this interval is exact for any number of runs
    (Fieller 1954, "Some problems in interval estimation"). Its ends solve (2 p2 z + p1)^2 = t^2 Var(slope), a quadratic
    in z = log N - middle; if it has no two solutions, the curvature itself may be 0.
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
    """Covariance of least-squares coefficients: columns (runs, coefficients), residuals (runs,)."""
    variance = (residuals**2).sum() / (len(residuals) - columns.shape[1])
    return variance * np.linalg.inv(columns.T @ columns)


def _quantile(freedom: int) -> float:
    """The quantile of Student's t for a two-sided 90 % interval."""
    from scipy import stats

    return float(stats.t.ppf(0.95, freedom))

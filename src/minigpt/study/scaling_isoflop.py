"""IsoFLOP parabolas: for each budget of FLOPs the size whose loss is the lowest (pure mathematics)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.study.scaling import Interval, Point

SAME_BUDGET = 0.15
"""Runs whose FLOPs differ by less than this factor above 1 from the first of them have one budget."""
LEAST_SIZES = 3
"""A parabola has three coefficients."""
_NOISES = 400


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
    """Of `best_parameters`; as wide as can be with three sizes, which leave no residual to judge by."""
    is_inside: bool
    """Whether the lowest point lies between the sizes that were tried."""

    def loss(self, n_parameters: np.ndarray) -> np.ndarray:
        """Of sizes (k,)."""
        return np.polyval(self.coefficients, np.log(n_parameters))


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """N_opt = N_1 (C / C_1)^exponent through the parabolas' lowest points."""

    exponent: float
    scale: float
    """log N_opt at one FLOP."""

    def parameters(self, flops: float) -> float:
        """The best size for so many FLOPs."""
        return float(np.exp(self.scale + self.exponent * np.log(flops)))


def parabolas(points: Sequence[Point], seed: int = 0) -> list[Parabola]:
    """One for each budget that has three sizes or more and whose loss is lowest somewhere, cheapest first."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if groups and point.flops <= groups[-1][0].flops * (1 + SAME_BUDGET):
            groups[-1].append(point)
        else:
            groups.append([point])
    found = [_parabola(group, seed) for group in groups if len({p.n_parameters for p in group}) >= LEAST_SIZES]
    return [each for each in found if each is not None]


def frontier(found: Sequence[Parabola]) -> Frontier | None:
    """A line through the lowest points that lie inside; None for fewer than two."""
    inside = [each for each in found if each.is_inside]
    if len(inside) < 2:
        return None
    flops, sizes = np.log([p.flops for p in inside]), np.log([p.best_parameters for p in inside])
    exponent, scale = np.polyfit(flops, sizes, 1)
    return Frontier(exponent=float(exponent), scale=float(scale))


def _parabola(group: Sequence[Point], seed: int) -> Parabola | None:
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
        interval=_bottoms(x - middle, y, fitted, float(middle), seed),
        is_inside=bool(x.min() <= bottom <= x.max()),
    )


def _bottoms(x: np.ndarray, y: np.ndarray, fitted: np.ndarray, middle: float, seed: int) -> Interval:
    """Nine in ten lowest points of parabolas through losses with noise of the residuals' size (a parametric
    bootstrap)."""
    freedom = len(x) - 3
    if freedom == 0:
        return Interval(0.0, float("inf"))
    line = np.polyval(fitted, x)
    deviation = np.sqrt(((y - line) ** 2).sum() / freedom)
    noise = np.random.default_rng(seed).normal(0, deviation, (_NOISES, len(x)))
    p2, p1, _ = np.polyfit(x, (line + noise).T, 2)
    bottoms = np.where(p2 > 0, -p1 / (2 * np.where(p2 > 0, p2, 1)), np.sign(-p1) * np.inf)
    low, high = np.quantile(bottoms, (0.05, 0.95), method="inverted_cdf")
    return Interval(float(np.exp(middle + low)), float(np.exp(middle + min(high, 500.0))))

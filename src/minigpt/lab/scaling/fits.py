"""Fit a scaling law to the losses of runs, with bootstrap intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minigpt.errors import DataError
from minigpt.lab.scaling.law import Interval, Law, run_interval

DELTA = 1e-3
"""Residual of the log loss beyond which Huber's loss is linear (Hoffmann et al. 2022, appendix D.3)."""
LEAST_RUNS = 6
"""One more than the number of coefficients."""
LEAST_SIZES = 3
"""Least number of distinct parameter counts, and of token counts: two fit any line."""
BOOTSTRAPS = 200
COEFFICIENTS = ("E", "A", "B", "alpha", "beta")
_BEST_STARTS = 24
"""Points of the grid from which the fit is started."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run."""

    name: str
    n_parameters: float
    n_tokens: float
    flops: float
    """FLOPs of its training."""
    loss: float
    """Final validation loss, nats per token."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law with its uncertainty; intervals contain nine in ten bootstrap fits."""

    law: Law
    resampled: tuple[Law, ...]
    """Fits to as many runs drawn with replacement."""
    residual: float
    """Root mean square residual of log L."""
    noise: float
    """Standard deviation of log L of a new run around the law; the residual corrected for the fitted coefficients."""
    flops_per_pair: float
    """Median of FLOPs / (N D) over the runs: 6 in theory, more if attention or the vocabulary is a large part."""

    def __repr__(self) -> str:
        """One line."""
        return f"{self.law}, residual {self.residual:.2%}, {len(self.resampled)} bootstrap fits"

    def interval(self, name: str) -> Interval:
        """The interval of a coefficient: E, A, B, alpha, beta."""
        return _interval([getattr(law, name) for law in self.resampled])

    def loss_interval(self, n_parameters: float, n_tokens: float) -> Interval:
        """The interval of the loss of one more run."""
        return run_interval(self.resampled, self.noise, n_parameters, n_tokens)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of the lowest loss for a budget of FLOPs."""
        return self.law.optimum(flops, self.flops_per_pair)

    def optimum_interval(self, flops: float) -> Interval:
        """The interval of the compute-optimal number of parameters."""
        return _interval([law.optimum(flops, self.flops_per_pair)[0] for law in self.resampled])

    def as_dict(self) -> dict[str, object]:
        """Intervals and residual as plain values."""
        intervals = {name: [self.interval(name).low, self.interval(name).high] for name in COEFFICIENTS}
        return {"intervals": intervals, "residual": self.residual}

    @property
    def exponent(self) -> float:
        """a in N_opt ~ C^a: beta / (alpha + beta), 0.46 to 0.5 in Hoffmann et al. 2022."""
        return self.law.beta / (self.law.alpha + self.law.beta)

    def exponent_interval(self) -> Interval:
        """The interval of a."""
        return _interval([law.beta / (law.alpha + law.beta) for law in self.resampled])


def fit_scaling(points: Sequence[Point], *, bootstraps: int = BOOTSTRAPS, seed: int = 0) -> Fit:
    """Fit L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, eq. 2, approach 3).

    Huber's loss of log L, minimised by L-BFGS from the best points of a grid of starts; the bootstrap draws runs with
    replacement and starts from the fit to all. Raises DataError for runs that are too few or too alike.
    """
    _check(points)
    # Sorted, so that the bootstrap does not depend on their order.
    points = sorted(points, key=lambda point: (point.flops, point.n_parameters))
    logs = _Logs.of(points)
    best = min((_minimise(logs, start) for start in _starts(logs)), key=lambda found: found[1])[0]
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(bootstraps):
        drawn = logs.take(generator.integers(0, len(points), len(points)))
        starts = [best, best + generator.normal(0, 0.3, 5)]
        resampled.append(logs.law(min((_minimise(drawn, start) for start in starts), key=lambda found: found[1])[0]))
    residual = float(np.sqrt(np.mean(logs.residuals(best) ** 2)))
    return Fit(
        law=logs.law(best),
        resampled=tuple(resampled),
        residual=residual,
        noise=residual * math.sqrt(len(points) / (len(points) - len(COEFFICIENTS))),
        flops_per_pair=float(np.median([point.flops / point.n_parameters / point.n_tokens for point in points])),
    )


def _check(points: Sequence[Point]) -> None:
    n_sizes, n_lengths = len({p.n_parameters for p in points}), len({p.n_tokens for p in points})
    if len(points) < LEAST_RUNS or n_sizes < LEAST_SIZES or n_lengths < LEAST_SIZES:
        raise DataError(
            f"a scaling law of five coefficients needs {LEAST_RUNS} finished runs or more, of {LEAST_SIZES} sizes and "
            f"{LEAST_SIZES} numbers of tokens: there are {len(points)}, of {n_sizes} and {n_lengths}"
        )


@dataclass(frozen=True)
class _Logs:
    """The logarithms of the runs, centred for N and D so that the coefficients are nearly independent.

    A guess is (a, b, e, alpha, beta), all real: L = exp(e) + exp(a - alpha n) + exp(b - beta d).
    """

    n: np.ndarray
    d: np.ndarray
    loss: np.ndarray
    n_mean: float
    d_mean: float

    @classmethod
    def of(cls, points: Sequence[Point]) -> "_Logs":
        n, d, loss = (
            np.log([getattr(point, name) for point in points]) for name in ("n_parameters", "n_tokens", "loss")
        )
        return cls(n - n.mean(), d - d.mean(), loss, float(n.mean()), float(d.mean()))

    def take(self, chosen: np.ndarray) -> "_Logs":
        return _Logs(self.n[chosen], self.d[chosen], self.loss[chosen], self.n_mean, self.d_mean)

    def terms(self, guess: np.ndarray) -> np.ndarray:
        """guess (..., 5) -> (..., 3, runs): the log of each term of the loss."""
        a, b, e, alpha, beta = (guess[..., index, None] for index in range(5))
        flat = np.broadcast_to(e, (*e.shape[:-1], len(self.loss)))
        return np.stack([a - alpha * self.n, b - beta * self.d, flat], axis=-2)

    def residuals(self, guess: np.ndarray) -> np.ndarray:
        """guess (..., 5) -> (..., runs): predicted minus true log loss."""
        return np.logaddexp.reduce(self.terms(guess), axis=-2) - self.loss

    def law(self, guess: np.ndarray) -> Law:
        a, b, e, alpha, beta = map(float, guess)
        return Law(
            E=float(np.exp(e)),
            A=float(np.exp(a + alpha * self.n_mean)),
            B=float(np.exp(b + beta * self.d_mean)),
            alpha=alpha,
            beta=beta,
        )


def _objective(guess: np.ndarray, logs: _Logs) -> tuple[float, np.ndarray]:
    """The mean of Huber's loss in units of DELTA squared, and its gradient (5,)."""
    terms = logs.terms(guess)
    total = np.logaddexp.reduce(terms, axis=0)
    residuals = (total - logs.loss) / DELTA
    size = np.abs(residuals)
    value = np.where(size <= 1, 0.5 * residuals**2, size - 0.5).mean()
    slope = np.clip(residuals, -1, 1) / DELTA / len(residuals)  # d value / d total
    share = np.exp(terms - total)  # d total / d term
    by_n, by_d, by_e = slope * share
    gradient = np.array([by_n.sum(), by_d.sum(), by_e.sum(), -(by_n * logs.n).sum(), -(by_d * logs.d).sum()])
    return float(value), gradient


def _minimise(logs: _Logs, start: np.ndarray) -> tuple[np.ndarray, float]:
    from scipy.optimize import minimize

    middle = float(logs.loss.mean())
    # Each term lies between a hundred-thousandth of the mean loss and all of it; exponents are positive and bounded.
    bounds = [(middle - 11.5, middle + 1)] * 2 + [(middle - 7, middle + 0.1)] + [(0.02, 3.0)] * 2
    start = np.clip(start, [low for low, _ in bounds], [high for _, high in bounds])
    done = minimize(
        _objective,
        start,
        args=(logs,),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-9, "maxcor": 20},
    )
    return done.x, float(done.fun)


def _starts(logs: _Logs) -> np.ndarray:
    """The best few of a grid over all five coefficients, (few, 5)."""
    middle = float(logs.loss.mean())
    shares = np.log([0.02, 0.1, 0.3, 0.6])  # of the mean loss, contributed by a term at the mean of N or D
    exponents = (0.15, 0.3, 0.5, 0.9)
    axes = (middle + shares, middle + shares, middle + np.log([0.1, 0.4, 0.7, 0.9]), exponents, exponents)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 5)
    size = np.abs(logs.residuals(grid)) / DELTA
    return grid[np.argsort(np.where(size <= 1, 0.5 * size**2, size - 0.5).mean(axis=-1))[:_BEST_STARTS]]


def _interval(values: Sequence[float]) -> Interval:
    if not values:
        return Interval(float("nan"), float("nan"))
    return Interval(*map(float, np.quantile(values, (0.05, 0.95))))

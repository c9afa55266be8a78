"""The curves of a run over tokens, FLOPs and time, and their values at equal cost."""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from minigpt.lab.compare.result import Curve, Measure
from minigpt.model.sizes import flops_per_token
from minigpt.runs.records import RunRecord


def validation_curve(record: RunRecord, measure: Measure) -> Curve:
    """The validations of a run whose value is a number."""
    points = {step: row[f"val/{measure}"] for step, row in record.metrics.items() if f"val/{measure}" in row}
    points = {step: points[step] for step in sorted(points) if math.isfinite(points[step])}
    tokens = [record.tokens_at(step) for step in points]
    per_token = flops_per_token(record.model)
    return Curve(
        tokens=tokens,
        flops=[float(count * per_token) for count in tokens],
        seconds=seconds_at(record, list(points)),
        values=list(points.values()),
    )


def seconds_at(record: RunRecord, steps: Sequence[int]) -> list[float]:
    """Seconds of training until each of `steps`; empty where the run has no `train/ms_per_step`.

    Each point of that curve is the mean since the point before it, so their sum is the time.
    """
    rates = sorted(
        (step, row["train/ms_per_step"]) for step, row in record.metrics.items() if "train/ms_per_step" in row
    )
    if not rates:
        return []
    done, total = [0], [0.0]
    for step, milliseconds in rates:
        total.append(total[-1] + (step - done[-1]) * milliseconds / 1000)
        done.append(step)
    # A validation after the last point of the log costs its steps at the last rate.
    beyond = [max(0, step - done[-1]) * rates[-1][1] / 1000 for step in steps]
    return [float(np.interp(step, done, total)) + more for step, more in zip(steps, beyond, strict=True)]


def median_speed(record: RunRecord) -> float | None:
    """Tokens per second, as the log has them."""
    rates = [row.get("train/tokens_per_second", math.nan) for row in record.metrics.values()]
    return statistics.median(known) if (known := [rate for rate in rates if math.isfinite(rate)]) else None


def value_at(xs: Sequence[float], values: Sequence[float], x: float | None) -> float | None:
    """The curve's value at `x`, on the straight line between its neighbours; none outside of what was measured."""
    if x is None or not xs or not xs[0] <= x <= xs[-1]:
        return None
    return float(np.interp(x, xs, values))


def shortest_end(curves: Sequence[Sequence[float]]) -> float | None:
    """The largest x that all curves reach; none if one has no points."""
    return min((xs[-1] for xs in curves), default=None) if all(curves) else None

"""The numbers of each run, read from its curves over tokens, FLOPs and time, and the means of each group."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from minigpt.lab.compare.result import NUMBERS, Curve, Group, Measure, Run
from minigpt.lab.compare.statistics import estimate
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.runs.records import RunRecord


def validation_curve(record: RunRecord, measure: Measure) -> Curve:
    """The finite validations of a run over tokens, FLOPs and time."""
    points = {step: row[f"val/{measure}"] for step, row in record.metrics.items() if f"val/{measure}" in row}
    points = {step: points[step] for step in sorted(points) if math.isfinite(points[step])}
    tokens = [record.tokens_at(step) for step in points]
    per_token = _of_model(record, "flops_per_token")
    return Curve(
        tokens=tokens,
        flops=[float(count * per_token) for count in tokens],
        seconds=seconds_at(record, list(points)),
        values=list(points.values()),
    )


def seconds_at(record: RunRecord, steps: Sequence[int]) -> list[float]:
    """Seconds of training until each of `steps`; empty if the run has no `train/ms_per_step`.

    Each point of that curve is the mean since the point before it, so time is their sum, weighted by steps.
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
    # Steps after the last logged point are counted at its rate.
    beyond = [max(0, step - done[-1]) * rates[-1][1] / 1000 for step in steps]
    return [float(np.interp(step, done, total)) + more for step, more in zip(steps, beyond, strict=True)]


def median_speed(record: RunRecord) -> float | None:
    """The median of the logged tokens per second; None if there are none."""
    rates = [row.get("train/tokens_per_second", math.nan) for row in record.metrics.values()]
    return statistics.median(known) if (known := [rate for rate in rates if math.isfinite(rate)]) else None


def value_at(xs: Sequence[float], values: Sequence[float], x: float | None) -> float | None:
    """The value of a curve at `x`, interpolated linearly; None outside the measured range."""
    if x is None or not xs or not xs[0] <= x <= xs[-1]:
        return None
    return float(np.interp(x, xs, values))


def shortest_end(curves: Sequence[Sequence[float]]) -> float | None:
    """The largest x that all curves reach; None if one has no points."""
    return min((xs[-1] for xs in curves), default=None) if all(curves) else None


def summarise_run(
    record: RunRecord, curve: Curve, equal: dict[str, float | None], *, name: str, group: str, repeats: str | None
) -> Run:
    """The numbers of one run; `equal` gives the costs at which its `curve` is read."""
    losses = validation_curve(record, "loss").values
    bits = validation_curve(record, "bits_per_byte").values
    tokens = record.tokens_at(record.step)
    return Run(
        name=name,
        folder=str(record.folder),
        group=group,
        seed=seed_of(record),
        state=record.state,
        repeats=repeats,
        steps=record.step,
        tokens=tokens,
        flops=float(tokens * _of_model(record, "flops_per_token")),
        seconds=curve.seconds[-1] if curve.seconds else None,
        validations=len(curve.values),
        parameters=_of_model(record, "parameters"),
        tokens_per_second=median_speed(record),
        final_loss=losses[-1],
        best_loss=min(losses),
        final_bits_per_byte=bits[-1] if bits else None,
        best_bits_per_byte=min(bits, default=None),
        at_equal_tokens=value_at(curve.tokens, curve.values, equal["tokens"]),
        at_equal_flops=value_at(curve.flops, curve.values, equal["flops"]),
        at_equal_time=value_at(curve.seconds, curve.values, equal["time"]),
        evaluations=last_evaluations(record),
    )


def _of_model(record: RunRecord, name: Literal["parameters", "flops_per_token"]) -> int:
    """A count of the run's model as the run recorded it, so that no component of the user's own is needed; of an older
    run by the closed form."""
    recorded = record.sessions[-1].get(name) if record.sessions else None
    if isinstance(recorded, int):
        return recorded
    return parameter_count(record.model) if name == "parameters" else flops_per_token(record.model)


def last_evaluations(record: RunRecord) -> dict[str, float]:
    """The last number of each curve of `run.evaluations`."""
    rows = [row for _, row in sorted(record.metrics.items())]
    return {name: value for row in rows for name, value in row.items() if name.startswith("eval/")}


def summarise_group(name: str, settings: dict[str, Any], runs: Sequence[Run]) -> Group:
    """Average over the seeds; a run that repeats another does not count."""
    counted = [run for run in runs if run.repeats is None]
    columns = {number: [getattr(run, number) for run in counted] for number in NUMBERS}
    columns |= {name: [run.evaluations.get(name) for run in counted] for run in counted for name in run.evaluations}
    return Group(
        name=name,
        settings=settings,
        runs=[run.name for run in runs],
        seeds=[run.seed for run in counted],
        estimates={
            number: estimate(values)
            for number, values in columns.items()
            if all(value is not None and math.isfinite(value) for value in values)
        },
    )


def seed_of(record: RunRecord) -> int:
    """The seed of weights, batches and dropout."""
    return int(record.config["seed_everything"])


def repeated(records: Sequence[RunRecord], group: Sequence[int]) -> dict[int, int]:
    """Map each run of a `group` (positions in `records`) whose seed an earlier run had to that earlier run."""
    first: dict[int, int] = {}
    repeats = {position: first.setdefault(seed_of(records[position]), position) for position in group}
    return {position: before for position, before in repeats.items() if before != position}

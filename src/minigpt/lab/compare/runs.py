"""What each run came to, and the means of each group."""

import math
from collections.abc import Sequence
from typing import Any

from minigpt.lab.compare.curves import median_speed, validation_curve, value_at
from minigpt.lab.compare.result import NUMBERS, Curve, Group, Run
from minigpt.lab.compare.statistics import estimate
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.runs.records import RunRecord


def summarise_run(
    record: RunRecord, curve: Curve, equal: dict[str, float | None], *, name: str, group: str, repeats: str | None
) -> Run:
    """The numbers of one run; `equal` says where on its `curve` the values at equal cost are read."""
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
        flops=float(tokens * flops_per_token(record.model)),
        seconds=curve.seconds[-1] if curve.seconds else None,
        validations=len(curve.values),
        parameters=parameter_count(record.model),
        tokens_per_second=median_speed(record),
        final_loss=losses[-1],
        best_loss=min(losses),
        final_bits_per_byte=bits[-1] if bits else None,
        best_bits_per_byte=min(bits, default=None),
        at_equal_tokens=value_at(curve.tokens, curve.values, equal["tokens"]),
        at_equal_flops=value_at(curve.flops, curve.values, equal["flops"]),
        at_equal_time=value_at(curve.seconds, curve.values, equal["time"]),
    )


def summarise_group(name: str, settings: dict[str, Any], runs: Sequence[Run]) -> Group:
    """The means over the seeds; a run that repeats another counts in none."""
    counted = [run for run in runs if run.repeats is None]
    columns = {number: [getattr(run, number) for run in counted] for number in NUMBERS}
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
    """Of its weights, batches and dropout."""
    return int(record.config["seed_everything"])


def repeated(records: Sequence[RunRecord], group: Sequence[int]) -> dict[int, int]:
    """The runs of a `group`, given as positions in `records`, that had the seed of one before, each with that one."""
    first: dict[int, int] = {}
    repeats = {position: first.setdefault(seed_of(records[position]), position) for position in group}
    return {position: before for position, before in repeats.items() if before != position}

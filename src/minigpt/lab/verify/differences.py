"""Find what differs, to the last bit, between two checkpoints and two curves that should be the same."""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.runs.checkpoint import Checkpoint, read_content
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.callbacks.curves import WALL_CLOCK
from minigpt.training.callbacks.divergence_guard import DivergenceGuard
from minigpt.training.changes import flatten
from minigpt.training.config import Experiment
from minigpt.training.whole_steps import windows_read

_NOT_COMPARED = {"minigpt.provenance", "minigpt.yaml", "minigpt.texts"}
"""They say where and when, and are shown as such; older checkpoints have no texts, and the fingerprint covers them."""
_NOT_ENVIRONMENT = {
    *(
        "command",
        "started",
        "from_step",
        "parent",
        "weights_only",
        "changes",
        "session",
        "data_fingerprint",
        "texts",
        "loses",
        "parameters",
        "flops_per_token",
    ),
}
"""Facts of the provenance that say when and from where; the data are compared by the checkpoint's fingerprint."""
_NOT_RECORDED = "not recorded"
_CALLBACK = re.compile(r"callbacks\.(\w+)")
"""The class of a callback whose state a leaf of a checkpoint belongs to; after it may stand its settings."""


@dataclass(kw_only=True)
class VerifyResult:
    """What the comparison of a run with its retraining found; empty lists mean identical."""

    seconds: float
    compared: dict[str, int] = field(default_factory=dict)
    """Part of the checkpoint -> values that were compared."""
    curve: list[str] = field(default_factory=list)
    """The first step and the first point of the curve that differ."""
    parts: dict[str, list[str]] = field(default_factory=dict)
    """Part of the checkpoint -> what differs in it, a line each, in the order of the file."""
    environment: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What is different now from when the run wrote its checkpoint: name -> (then, now)."""

    @property
    def identical(self) -> bool:
        """Whether every bit is the same."""
        return not self.curve and not self.parts


def compare_environments(then: Checkpoint, now: Checkpoint) -> dict[str, tuple[Any, Any]]:
    """The facts in which the provenance of `then` and `now` differ; those that only one of them records count too."""
    before, after = (flatten({**each.provenance, "data": each.data_fingerprint}) for each in (then, now))
    pairs = {
        name: (before.get(name, _NOT_RECORDED), after.get(name, _NOT_RECORDED))
        for name in {**before, **after}
        if name.split(".")[0] not in _NOT_ENVIRONMENT
    }
    return {name: (one, other) for name, (one, other) in pairs.items() if one != other}


def compare_contents(
    result: VerifyResult, then: dict[str, Any], now: dict[str, Any], left_out: Collection[str] = ()
) -> None:
    """Compare every value of two checkpoints, tensors bit by bit, except the states of the callbacks `left_out`."""
    before, after = dict(_leaves(then)), dict(_leaves(now))
    for name in {**before, **after}:
        if any(name == skipped or name.startswith(f"{skipped}.") for skipped in _NOT_COMPARED):
            continue
        callback = _CALLBACK.match(name)
        if callback and callback[1] in left_out:
            continue
        part = name.split(".")[0]
        result.compared[part] = result.compared.get(part, 0) + 1
        how = _difference(before.get(name), after.get(name))
        if how:
            result.parts.setdefault(part, []).append(f"{name.removeprefix(part + '.')}: {how}")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of all that is neither a mapping nor a sequence."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}.{number}" if name else str(number))
    else:
        yield name, value


def _difference(then: Any, now: Any) -> str | None:
    """How two leaves differ; None: not at all."""
    if isinstance(then, Tensor) and isinstance(now, Tensor):
        if then.shape != now.shape or then.dtype != now.dtype:
            return f"{tuple(then.shape)} {then.dtype} then, {tuple(now.shape)} {now.dtype} now"
        if torch.equal(_bits(then), _bits(now)):
            return None
        gap = (then.double() - now.double()).abs()
        return f"{int((gap > 0).sum()):,} of {gap.numel():,} values, by {float(gap.max()):.3g} at most"
    both_nan = all(isinstance(value, float) and math.isnan(value) for value in (then, now))
    return None if both_nan or (type(then) is type(now) and then == now) else f"{then} then, {now} now"


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor: 0.0 and -0.0 differ in them, and a nan equals itself."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def compare_curves(result: VerifyResult, paths: Sequence[Path], first: int, last: int) -> None:
    """Compare the points of metrics.csv in the segment, and note the first that differs."""
    if not all(path.exists() for path in paths):
        return
    then, now = (read_metrics(path) for path in paths)
    for step in sorted(step for step in {*then, *now} if first < step <= last):
        row, other = then.get(step, {}), now.get(step, {})
        for name in {**row, **other}:
            if name in WALL_CLOCK or name.startswith("eval/"):  # evaluations are not run again: they change no bit
                continue
            result.compared["curve"] = result.compared.get("curve", 0) + 1
            how = _difference(row.get(name), other.get(name))
            if how and not result.curve:
                result.curve.append(f"first at step {step:,}: {name} {how}")


def first_loss(then: dict[str, Any], now: dict[str, Any], end: int) -> str | None:
    """The first step whose loss differs: the guard keeps the last ones all, where the curve has every tenth."""
    states = [_guard_state(content) for content in (then, now)]
    if any(state is None or state["skipped"] for state in states):
        return None  # a skipped step has no loss there: places would not tell steps
    before, after = (state["losses"] for state in states if state)
    for place, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return f"first at step {end - len(before) + 1 + place:,}: the loss was {one}, is {other}"
    return None


def compare_windows(before: Checkpoint | None, end: dict[str, Any], experiment: Experiment) -> str | None:
    """How many windows the steps between two checkpoints read too few or too many, by their positions; None: none.

    Retraining cannot find that where the settings change on a resume: it begins with the same resume.
    """
    session = end["minigpt"]["provenance"].get("from_step") or 0
    first = before.step if before else 0
    until, since = windows_read(end), windows_read(read_content(before.path)) if before else 0
    if until is None or since is None or first < session:
        return None
    steps, windows = end["minigpt"]["step"] - first, until - since
    whole = experiment.data.batch_size * experiment.trainer["accumulate_grad_batches"]
    if windows == steps * whole:
        return None
    if first == session and before:
        return (
            f"first at step {first + 1:,}: the step after a resume read {windows - (steps - 1) * whole:,} windows, "
            f"a whole step reads {whole:,}"
        )
    return f"from step {first + 1:,} on: {steps:,} steps read {windows:,} windows, whole ones read {steps * whole:,}"


def _guard_state(content: dict[str, Any]) -> dict[str, Any] | None:
    callbacks: dict[str, dict[str, Any]] = content.get("callbacks", {})
    return next((state for name, state in callbacks.items() if name.startswith(DivergenceGuard.__name__)), None)

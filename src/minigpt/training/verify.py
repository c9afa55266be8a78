"""Retrain the stretch between two checkpoints of a run, elsewhere, and compare with what the run wrote, bit by bit."""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback
from rich.console import Console
from torch import Tensor

from minigpt.archive import check_sum, is_complete
from minigpt.checkpoint import Checkpoint, read_checkpoint, read_content, step_name, step_paths
from minigpt.errors import CheckpointError
from minigpt.training.checkpoints import Checkpoints
from minigpt.training.config import Experiment
from minigpt.training.curves import WALL_CLOCK
from minigpt.training.fit import fit
from minigpt.training.guard import DivergenceGuard
from minigpt.training.metrics_file import read_metrics
from minigpt.training.position import EveryStep
from minigpt.training.provenance import describe
from minigpt.training.resume import flatten

_NOT_COMPARED = {"minigpt.provenance", "minigpt.yaml"}
"""They say where and when, and are shown as such."""
_NOT_A_WORLD = {"command", "started", "from_step", "parent", "weights_only", "changes", "session"}


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """The steps between two consecutive checkpoints of a run."""

    run: Path
    end: Checkpoint
    begin: Checkpoint | None
    """None: the stretch begins where the run does."""

    @property
    def first(self) -> int:
        """Steps done when it begins."""
        return self.begin.step if self.begin else 0


@dataclass(kw_only=True)
class Outcome:
    """What the comparison found; empty lists mean identical."""

    seconds: float
    compared: dict[str, int] = field(default_factory=dict)
    """Part of the checkpoint -> values that were compared."""
    curve: list[str] = field(default_factory=list)
    """The first step and the first point of the curve that differ."""
    parts: dict[str, list[str]] = field(default_factory=dict)
    """Part of the checkpoint -> what differs in it, a line each, in the order of the file."""
    world: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What is another now than when the run wrote its checkpoint: name -> (then, now)."""

    @property
    def identical(self) -> bool:
        """Whether every bit is the same."""
        return not self.curve and not self.parts


def find_stretch(run: Path, step: int | None = None) -> Stretch:
    """The newest stretch of the run's folder, or the one that ends at `step`. Every file is verified by its checksum.

    A run with a single checkpoint is retrained from its beginning.
    """
    paths = step_paths(run / "checkpoints")
    if not paths:
        raise CheckpointError(f"{run} holds no checkpoints/step=N.ckpt to verify")
    for path in sorted((run / "checkpoints").glob("*.ckpt")):
        if not is_complete(path):
            read_content(path)  # says what is wrong with it
        check_sum(path)
    names = [path.name for path in paths]
    if step is not None and step_name(step) not in names:
        raise CheckpointError(f"{run} has no checkpoint of step {step}: there are {', '.join(names)}")
    place = len(paths) - 1 if step is None else names.index(step_name(step))
    end = read_checkpoint(paths[place])
    begin = read_checkpoint(paths[place - 1]) if place > 0 else None
    if begin is None and end.provenance.get("parent"):
        raise CheckpointError(
            f"{run} began from {end.provenance['parent']} and has a single checkpoint: two are needed to verify it"
        )
    if not end.yaml:
        raise CheckpointError(f"{end.path} does not hold its run's config: it was not written by minigpt fit")
    return Stretch(run=run, end=end, begin=begin)


def verify(stretch: Stretch, experiment: Experiment, scratch: Path) -> Outcome:
    """Retrain `stretch` in the folder `scratch` by `experiment`, the config of its end, and compare.

    Nothing is written to the run. The loggers that the config adds are left out.
    """
    began = time.perf_counter()
    folder = scratch / experiment.run.name
    callbacks = experiment.trainer.get("callbacks") or []
    callbacks = [*(callbacks if isinstance(callbacks, list) else [callbacks]), StopAt(stretch.end.step)]
    logger = experiment.trainer.get("logger") is not False
    again = replace(
        experiment,
        run=replace(experiment.run, root=str(scratch), keep=0, sample_every=0),
        trainer={**experiment.trainer, "callbacks": callbacks, "logger": logger},
    )
    if stretch.begin:
        (folder / "checkpoints").mkdir(parents=True)
        for name in ("config.yaml", "metrics.csv"):
            if (stretch.run / name).exists():
                shutil.copyfile(stretch.run / name, folder / name)
        (folder / "config.yaml").write_text(stretch.end.yaml, encoding="utf-8")
        shutil.copyfile(stretch.begin.path, folder / "checkpoints" / stretch.begin.path.name)
    with contextlib.suppress(_Reached):
        fit(again, ckpt_path="last" if stretch.begin else None, console=Console(quiet=True))
    outcome = Outcome(seconds=time.perf_counter() - began)
    path = folder / "checkpoints" / step_name(stretch.end.step)
    then, retrained = read_content(stretch.end.path), read_content(path)
    _compare_contents(outcome, then, retrained)
    _compare_curves(outcome, stretch, folder)
    first = _first_loss(then, retrained, stretch.end.step)
    if first:
        outcome.curve.insert(0, first)
    now = read_checkpoint(path)
    outcome.world = compare_worlds(stretch.end, {**describe(()), "data": now.data_fingerprint})
    return outcome


def compare_worlds(checkpoint: Checkpoint, now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What the provenance of `checkpoint` says otherwise than `now`, the description of this process."""
    then = {**checkpoint.provenance, "data": checkpoint.data_fingerprint}
    before, after = flatten(then), flatten(now)
    names = [name for name in before if name.split(".")[0] not in _NOT_A_WORLD and name in after]
    return {name: (before[name], after[name]) for name in names if before[name] != after[name]}


class _Reached(Exception):  # noqa: N818  (not an error)
    """The end of the stretch is trained and saved."""


class StopAt(EveryStep, CheckpointCallback):
    """Save and stop after a step, as the run did there, whatever its schedule still had before it.

    Being a `Checkpoint`, it is called after all callbacks whose state the checkpoint holds.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Stop if this is the step."""
        if step == self.step:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Checkpoints):
                    callback.save(trainer, rolling=True)
            raise _Reached


def _compare_contents(outcome: Outcome, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Every value of two checkpoints, tensors bit by bit."""
    before, after = dict(_leaves(then)), dict(_leaves(now))
    for name in {**before, **after}:
        if any(name == skipped or name.startswith(f"{skipped}.") for skipped in _NOT_COMPARED):
            continue
        part = name.split(".")[0]
        outcome.compared[part] = outcome.compared.get(part, 0) + 1
        how = _difference(before.get(name), after.get(name))
        if how:
            outcome.parts.setdefault(part, []).append(f"{name.removeprefix(part + '.')}: {how}")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all that is neither a mapping nor a sequence."""
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


def _compare_curves(outcome: Outcome, stretch: Stretch, folder: Path) -> None:
    """The points of metrics.csv in the stretch; the first that differs is where to begin to look."""
    paths = [stretch.run / "metrics.csv", folder / "metrics.csv"]
    if not all(path.exists() for path in paths):
        return
    then, now = (read_metrics(path) for path in paths)
    for step in sorted(step for step in {*then, *now} if stretch.first < step <= stretch.end.step):
        row, other = then.get(step, {}), now.get(step, {})
        for name in {**row, **other}:
            if name in WALL_CLOCK:
                continue
            outcome.compared["curve"] = outcome.compared.get("curve", 0) + 1
            how = _difference(row.get(name), other.get(name))
            if how and not outcome.curve:
                outcome.curve.append(f"first at step {step:,}: {name} {how}")


def _first_loss(then: dict[str, Any], now: dict[str, Any], end: int) -> str | None:
    """The first step whose loss differs: the guard keeps the last ones all, where the curve has every tenth."""
    states = [_guard_state(content) for content in (then, now)]
    if any(state is None or state["skipped"] for state in states):
        return None  # a skipped step has no loss there: places would not tell steps
    before, after = (state["losses"] for state in states if state)
    for place, (one, other) in enumerate(zip(before, after, strict=False)):
        if one != other:
            return f"first at step {end - len(before) + 1 + place:,}: the loss was {one}, is {other}"
    return None


def _guard_state(content: dict[str, Any]) -> dict[str, Any] | None:
    callbacks: dict[str, dict[str, Any]] = content.get("callbacks", {})
    return next((state for name, state in callbacks.items() if name.startswith(DivergenceGuard.__name__)), None)

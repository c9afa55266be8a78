"""Retrain a segment of a run, from one checkpoint to the next, elsewhere, and compare every bit with the run's."""

import contextlib
import shutil
import time
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback

from minigpt.errors import CheckpointError
from minigpt.lab.verify.differences import (
    VerifyResult,
    compare_contents,
    compare_curves,
    compare_environments,
    compare_windows,
    first_loss,
)
from minigpt.runs.archive import check_sum, is_complete
from minigpt.runs.checkpoint import Checkpoint, read_checkpoint, read_content
from minigpt.runs.paths import step_name, step_paths
from minigpt.system.marks import write_mark
from minigpt.system.output import console
from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.callbacks.validation import PeriodicValidation
from minigpt.training.changes import settings_of
from minigpt.training.config import Experiment
from minigpt.training.fit import fit
from minigpt.training.position import EveryStep
from minigpt.training.trainer import listed
from minigpt.training.world import find_world

_CHANGE_NOTHING = frozenset({
    "trainer.max_time", "trainer.logger", "trainer.profiler", "trainer.enable_progress_bar", "run.keep", "run.stream",
    "trainer.enable_model_summary", "run.sample_every", "run.sample_prompt", "run.panels", "run.panel_every",
    "data.num_workers", "run.evaluations", "run.evaluate_every",
})  # fmt: skip
"""Settings that change neither a step nor what is compared of it."""
_WRITERS = (CheckpointCallback, Timer)
"""Callbacks that save or watch the clock: they change no step, and would do again what the run did."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The steps between two consecutive checkpoints of a run."""

    run: Path
    end: Checkpoint
    begin: Checkpoint | None
    """The checkpoint to retrain from; none: the beginning of the run."""
    border: Checkpoint | None = None
    """The checkpoint of a resume inside the segment. Retraining goes straight over it: a faulty resume would repeat its
    fault."""
    uncovered: str = ""
    """Why the first step after a resume is not verified: retraining begins with that resume too."""

    @property
    def first(self) -> int:
        """Steps done before it."""
        return self.begin.step if self.begin else 0

    @property
    def before(self) -> Checkpoint | None:
        """The checkpoint before its end."""
        return self.border or self.begin


def find_segment(run: Path, step: int | None = None) -> Segment:
    """The newest segment of the run's folder, or the one that ends at `step`. Every file is verified by its checksum.

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
    if begin is None or end.provenance.get("from_step") != begin.step:
        return Segment(run=run, end=end, begin=begin)
    earlier = read_checkpoint(paths[place - 2]) if place > 1 else None
    if reason := _why_not_straight(earlier, begin, end):
        return Segment(run=run, end=end, begin=begin, uncovered=reason)
    return Segment(run=run, end=end, begin=earlier, border=begin)


def _why_not_straight(earlier: Checkpoint | None, border: Checkpoint, end: Checkpoint) -> str:
    """Why one training from `earlier` cannot do the steps on both sides of `border`; empty: it can."""
    changes = [key for key in end.provenance.get("changes") or {} if key not in _CHANGE_NOTHING]
    if changes:
        return f"settings changed there ({', '.join(changes)})"
    if worlds := compare_environments(border, end):
        return f"it was made elsewhere than the steps before it ({', '.join(worlds)})"
    save_every = settings_of(border.yaml).get("run.save_every")
    kept = earlier or (
        isinstance(save_every, int) and border.step <= save_every and not border.provenance.get("parent")
    )
    if not kept or border.provenance.get("from_step", 0) > (earlier.step if earlier else 0):
        return "no checkpoint before it is kept"
    return ""


def verify(
    segment: Segment, experiment: Experiment, scratch: Path, left_out: Collection[str] = ()
) -> VerifyResult | None:
    """Retrain `segment` in the folder `scratch` by `experiment`, the config of its end, and compare.

    Of the callbacks that the config adds those that save are left out; the others run again, and write where they
    write. `left_out` names classes whose callbacks are left out of the config already. Gives None on all processes but
    the first.
    """
    began = time.perf_counter()
    folder = scratch / experiment.run.name
    (folder if segment.begin else scratch).mkdir(parents=True)
    given: list[Callback] = listed(experiment.trainer.get("callbacks"))
    callbacks = [callback for callback in given if not isinstance(callback, _WRITERS)]
    again = replace(
        experiment,
        run=replace(
            experiment.run, root=str(scratch), keep=0, sample_every=0, panels=(), evaluations=(), evaluate_every=0
        ),
        trainer={**experiment.trainer, "callbacks": [*callbacks, StopAt(segment.end.step, segment.border)]},
    )
    if segment.begin:
        write_mark(folder, "run")
        (folder / "checkpoints").mkdir()
        if (segment.run / "metrics.csv").exists():
            shutil.copyfile(segment.run / "metrics.csv", folder / "metrics.csv")
        (folder / "config.yaml").write_text(segment.end.yaml, encoding="utf-8")
        shutil.copyfile(segment.begin.path, folder / "checkpoints" / segment.begin.path.name)
    with contextlib.suppress(_Reached), warnings.catch_warnings():
        # Lightning warns of states in the checkpoint that belong to no callback: they are left out on purpose.
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")
        fit(again, resume=folder if segment.begin else None, console=console(quiet=True))
    if not find_world(experiment.trainer).is_main:
        return None
    path = folder / "checkpoints" / step_name(segment.end.step)
    if not path.exists():
        raise CheckpointError(
            f"{segment.run}: retraining ended before step {segment.end.step:,}, the end of the segment"
        )
    result = VerifyResult(seconds=time.perf_counter() - began)
    then, retrained = read_content(segment.end.path), read_content(path)
    writers = {type(callback).__name__ for callback in given if isinstance(callback, _WRITERS)}
    compare_contents(result, then, retrained, {*left_out, *writers})
    curves = [segment.run / "metrics.csv", folder / "metrics.csv"]
    compare_curves(result, curves, segment.first, segment.end.step)
    first = first_loss(then, retrained, segment.end.step)
    if first:
        result.curve.insert(0, first)
    if short := compare_windows(segment.before, then, experiment):
        result.curve.insert(0, short)
    result.environment = compare_environments(segment.end, read_checkpoint(path))
    return result


def callbacks_again(experiment: Experiment) -> list[str]:
    """The classes of the config's callbacks that run again when it is verified."""
    callbacks = listed(experiment.trainer.get("callbacks"))
    return [type(callback).__name__ for callback in callbacks if not isinstance(callback, _WRITERS)]


class _Reached(Exception):  # noqa: N818  (not an error)
    """The end of the segment is reached and saved."""


class StopAt(EveryStep, CheckpointCallback):
    """Save and stop after a step, as the run did there, whatever its schedule still had before it.

    Being a `Checkpoint`, it is called after all callbacks whose state the checkpoint holds.
    """

    def __init__(self, step: int, border: Checkpoint | None) -> None:
        """`border` is where a session of the run ended; an early end validates, whether that is due or not."""
        self.step = step
        self.border = border

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Stop if this is the step."""
        if self.border and step == self.border.step and self.border.val_loss is not None:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, PeriodicValidation | Checkpoints):
                    callback.on_train_end(trainer, pl_module)
        if step == self.step:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Checkpoints):
                    callback.save(trainer, rolling=True)
            raise _Reached

"""The position of a run: batches done, seconds of training, and a callback that runs once an optimizer step."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker

from minigpt.errors import CheckpointError, shown


def batches_done(trainer: Trainer) -> int:
    """Training batches that this run has processed since its very beginning, resumes included.

    Lightning counts them and keeps the count in every checkpoint. `total.processed` is the one of its counters that is
    right at every moment that matters: at the start of a batch, at its end, and after an exception inside a step.
    """
    return cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.total).processed


def check_position(saved: Any, fresh: Any, name: str = "fit_loop") -> None:
    """Raise CheckpointError unless `saved` has all the counters that `fresh` has, the state of loops that begin."""
    if isinstance(fresh, dict):
        if isinstance(saved, dict):
            for key, value in fresh.items():
                check_position(saved.get(key), value, f"{name}.{key}")
            return
    elif type(saved) is type(fresh) and (type(fresh) is not int or is_count(saved)):
        return
    raise CheckpointError(f"'{name}' of its position is not right")


def is_count(value: Any) -> bool:
    """Whether `value` can be a number of batches or steps."""
    return type(value) is int and 0 <= value < 2**62


def checked_count(value: Any) -> int:
    """`value`, out of a checkpoint; raises ValueError unless it can be a number of batches or steps."""
    if not is_count(value):
        raise ValueError(f"{shown(value)} is not a number of batches or steps")
    return int(value)


class EveryStep(Callback, ABC):
    """A callback that is called once an optimizer step, after it, whatever the accumulation: override `on_step`."""

    _seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the step that a resumed run begins from."""
        self._seen = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Call `on_step` if this batch completed an optimizer step."""
        step = trainer.global_step  # a lookup through five objects in Lightning
        if step != self._seen:
            self._seen = step
            self.on_step(trainer, pl_module, step)

    @abstractmethod
    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Act after `step` optimizer steps."""


class TurnTaker(EveryStep):
    """Call `between` after the first `warmup` optimizer steps, and then after every `steps`, until it says False."""

    def __init__(self, warmup: int, steps: int, between: Callable[[], bool]) -> None:
        self.due = warmup
        self.steps = steps
        self.between = between
        self.goes_on = True

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Let the others have their turn."""
        if self.goes_on and step == self.due:
            self.due += self.steps
            self.goes_on = self.between()


class TrainingClock:
    """Seconds of training: `pause` takes out what is not. Shared by the callbacks of one run."""

    def __init__(self) -> None:
        self._paused = 0.0

    def seconds(self) -> float:
        """Seconds on this clock; only differences mean something."""
        return time.perf_counter() - self._paused

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Let the clock stand still for the length of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

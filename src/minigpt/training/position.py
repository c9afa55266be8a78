"""The position of a run: batches done, and a callback that runs once an optimizer step."""

from abc import ABC, abstractmethod
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.progress import _ProcessedTracker


def batches_done(trainer: Trainer) -> int:
    """Training batches that this run has processed since its very beginning, resumes included.

    Lightning counts them and keeps the count in every checkpoint. `total.processed` is the one of its counters that is
    right at every moment that matters: at the start of a batch, at its end, and after an exception inside a step.
    """
    return cast(_ProcessedTracker, trainer.fit_loop.epoch_loop.batch_progress.total).processed


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

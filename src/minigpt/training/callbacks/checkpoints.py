"""Checkpoints: the newest few, the best one, written whole or not at all."""

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from minigpt.runs.archive import write_archive
from minigpt.runs.checkpoint import FORMAT
from minigpt.runs.paths import BEST_NAME, step_name, step_paths
from minigpt.system.files import atomic_path
from minigpt.training.monitors import missing_monitor
from minigpt.training.position import EveryStep, TrainingClock, checked_count


class AtomicCheckpointIO(TorchCheckpointIO):
    """A kill or a full disk never leaves half a checkpoint, and each has its checksum."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`; raises CheckpointError when the disk does not take it."""
        write_archive(checkpoint, Path(path))


class Checkpoints(EveryStep, Checkpoint):
    """Save every N optimizer steps and at the last one; keep the newest few and the one of the lowest validation loss.

    Being a `Checkpoint`, it is called after all other callbacks: the validation of a step is in the checkpoint of that
    step. `header` goes into each checkpoint, so that the file alone says how to use the weights.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: int,
        keep: int,
        header: dict[str, Any],
        clock: TrainingClock,
        check: Callable[[Trainer], None],
        same_curve: bool = True,
    ) -> None:
        """`check` is called before anything is written, and raises where nothing may be.

        `same_curve` says whether a restored best loss belongs to this folder and this text: not so for a branch.
        """
        super().__init__()
        self.folder = folder
        self.every = every
        self.keep = keep
        self.header = header
        self.clock = clock
        self.check = check
        self.same_curve = same_curve
        self.saved = -1
        """The step of the newest checkpoint."""
        self.best_loss: float | None = None
        self.best_step: int | None = None
        self._validated: tuple[int, float] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the fresh loss."""
        self._validated = (trainer.global_step, float(trainer.callback_metrics["val_loss"]))

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Save what is due at this step."""
        self.save(trainer, rolling=step % self.every == 0 or step == trainer.max_steps)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of a run that was stopped early."""
        self.save(trainer, rolling=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where a callback monitors what nothing has logged: its step is whole."""
        if missing_monitor(exception):
            self.save(trainer, rolling=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file self-contained."""
        loss = self.val_loss(trainer.global_step)
        checkpoint["minigpt"] = {"format": FORMAT, "step": trainer.global_step, "val_loss": loss, **self.header}

    def val_loss(self, step: int) -> float | None:
        """The validation loss at `step`, if there was a validation."""
        return self._validated[1] if self._validated is not None and self._validated[0] == step else None

    def save(self, trainer: Trainer, *, rolling: bool) -> None:
        """Write this step's checkpoint, if `rolling` or if it is the best so far, then let go of the oldest.

        The best loss is noted first, so that the checkpoint of a step knows what came out at that step.
        """
        step = trainer.global_step
        loss = self.val_loss(step)
        is_best = loss is not None and loss < (math.inf if self.best_loss is None else self.best_loss)
        if is_best:
            self.best_loss, self.best_step = loss, step
        rolling = rolling and self.saved != step
        if not (rolling or is_best):
            return
        self.check(trainer)
        with self.clock.pause():
            for logger in trainer.loggers:  # curves up to this step must not be lost: a resumed run begins after it
                logger.save()
            # The best one first: if a kill comes between the two, the resumed run begins before this step and does both
            # again. The other way round it would begin after it, and never know that the best one is missing.
            if is_best:
                trainer.save_checkpoint(self._path(trainer, BEST_NAME))
            if rolling and not is_best:
                trainer.save_checkpoint(self._path(trainer, step_name(step)))
            elif rolling and trainer.is_global_zero:
                _link(self.folder / BEST_NAME, self.folder / step_name(step))
            if rolling:
                self.saved = step
            if trainer.is_global_zero and self.keep:
                # A newer file than this step's is a damaged one that was passed over: it must not push out good ones.
                written = [path for path in step_paths(self.folder) if path.name <= step_name(step)]
                for old in written[: -self.keep]:
                    old.unlink()

    def _path(self, trainer: Trainer, name: str) -> str:
        """The path of a checkpoint, the same on every rank: only rank 0 knows for sure which folder the run took."""
        return trainer.strategy.broadcast(str(self.folder / name))

    def state_dict(self) -> dict[str, Any]:
        """The best loss so far, which a resumed run must beat."""
        return {"best_loss": self.best_loss, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best loss so far."""
        if self.same_curve:
            loss, step = state_dict["best_loss"], state_dict["best_step"]
            self.best_loss = None if loss is None else float(loss)
            self.best_step = None if step is None else checked_count(step)


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name, `target`, in one step; a copy where the file system has no links."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

"""The training loop: Lightning's, which counts batches, made to begin, save and end between optimizer steps alone."""

from collections.abc import Callable, Iterable
from typing import Any, cast

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, StochasticWeightAveraging, Timer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from minigpt.errors import ConfigError, TrainingError


class StepLoop(_TrainingEpochLoop):
    """A loop over the endless training batches in whole optimizer steps.

    Lightning steps when the number of batches since the beginning is a multiple of `accumulate_grad_batches`, and
    checks after each batch whether to stop. So a resume with another accumulation would begin amid one, and a stop (a
    time limit, `trainer.should_stop`) would leave a checkpoint that has read batches of which nothing was learned. Here
    a resume begins a whole accumulation, a stop waits for the end of its step, and a checkpoint that a callback writes
    amid an accumulation holds the position of the last whole step, as its weights do.
    """

    def __init__(self, trainer: Trainer, at_early_end: Callable[[Trainer], None]) -> None:
        """Replaces the loop of `trainer`; `at_early_end` is called when it stops before `max_steps`, the step done."""
        before = trainer.fit_loop.epoch_loop
        super().__init__(trainer, min_steps=before.min_steps, max_steps=before.max_steps)
        self.at_early_end = at_early_end
        self._accumulate = trainer.accumulate_grad_batches

    @property
    def pending(self) -> int:
        """Batches whose gradient is accumulated, but that no optimizer step has used yet."""
        return self._current.processed % self._accumulate

    @property
    def _current(self) -> _ProcessedTracker:
        return cast(_ProcessedTracker, self.batch_progress.current)

    @property
    def done(self) -> bool:
        """Whether to stop; never amid an accumulation."""
        return not self.pending and super().done

    def run(self, data_fetcher: _DataFetcher) -> None:
        """Train until the last step or an early end."""
        super().run(data_fetcher)
        if not self.done:
            raise TrainingError(
                f"a callback ended the epoch after step {self.global_step}, but a run is one endless epoch: "
                "trainer.should_stop = True stops it"
            )

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Begin a whole accumulation: round the batches of earlier sessions up to a multiple of it."""
        super().on_load_checkpoint(state_dict)
        self._current.increment_by(
            -self._current.processed % self._accumulate
        )  # the counters are restored before this is called

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on one batch."""
        if self.trainer.accumulate_grad_batches != self._accumulate:
            raise ConfigError(
                f"a callback changed trainer.accumulate_grad_batches from {self._accumulate} to "
                f"{self.trainer.accumulate_grad_batches}, but loss, speed and the order of the data count on one value"
            )
        super().advance(data_fetcher)

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Finish what belongs to the batch; at an early end the state is still that of a run which goes on."""
        super().on_advance_end(data_fetcher)
        if self.trainer.should_stop and self.done and not self._is_training_done:
            self.at_early_end(self.trainer)

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        """Never: PeriodicValidation does. Lightning would, after each batch from when somebody asks it to stop."""
        return False

    def state_dict(self, destination: dict[str, Any] | None = None, prefix: str = "") -> dict[str, Any]:
        """The counters of the last whole step."""
        state: dict[str, Any] = super().state_dict(destination, prefix)
        progress = state[f"{prefix}batch_progress"]
        if self.pending or progress["current"]["ready"] != progress["current"]["processed"]:
            for name in ("total", "current"):
                progress[name] = dict.fromkeys(progress[name], progress[name]["processed"] - self.pending)
        return state


def refuse_epoch_callbacks(callbacks: Iterable[Callback]) -> None:
    """Raise ConfigError for a callback of the config that acts at the end of an epoch, which a run never reaches."""
    for callback in callbacks:
        instead = None
        if isinstance(callback, GradientAccumulationScheduler):
            instead = "trainer.accumulate_grad_batches sets one value, and a resume may change it"
        elif isinstance(callback, StochasticWeightAveraging):
            instead = "EMAWeightAveraging averages by steps"
        elif isinstance(callback, Timer) and callback._interval == "epoch":
            instead = "interval=step checks after each step"
        elif isinstance(callback, EarlyStopping) and callback._check_on_train_epoch_end:
            instead = "leave check_on_train_epoch_end out to check after each validation"
        if instead:
            raise ConfigError(
                f"trainer.callbacks: {type(callback).__name__} counts epochs, but a run is one endless epoch: {instead}"
            )

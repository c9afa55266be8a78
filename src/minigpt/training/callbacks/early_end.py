"""Training that ends before its last step: a time limit, which each session has for itself, or a callback."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from minigpt.runs.status import TIME_LIMIT


class FreshTimers(Callback):
    """Let a resumed run begin with its whole time and without a reason to stop.

    Lightning restores the time that a Timer has counted: after its limit a resumed run would train nothing, again and
    again.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave out the state of timers, before it is restored."""
        for callback in _callbacks(trainer):
            if isinstance(callback, Timer):
                checkpoint["callbacks"].pop(callback.state_key, None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget why an earlier session stopped."""
        for callback in _callbacks(trainer):
            if isinstance(callback, EarlyStopping):
                callback.stopping_reason = EarlyStoppingReason.NOT_STOPPED


def early_end(trainer: Trainer) -> str | None:
    """Why and where training has ended before its last step; None: it has not."""
    if trainer.global_step >= trainer.max_steps:
        return None
    return f"{_reason(trainer)} at step {trainer.global_step:,} of {trainer.max_steps:,}"


def _reason(trainer: Trainer) -> str:
    for callback in _callbacks(trainer):
        if isinstance(callback, Timer) and (callback.time_remaining() or 0) <= 0 and callback._duration is not None:
            return TIME_LIMIT
    for callback in _callbacks(trainer):
        if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
            message = (callback.stopping_reason_message or "").partition(" Signaling Trainer")[0].rstrip(".")
            return f"{type(callback).__name__} ({message})"
    return "a callback (trainer.should_stop)"


def _callbacks(trainer: Trainer) -> list[Callback]:
    found: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return found

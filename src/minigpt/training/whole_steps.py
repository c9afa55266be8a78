"""The position that a checkpoint holds, in whole optimizer steps: older versions could save amid an accumulation, and a
faulty resume would read too little."""

from typing import Any

from minigpt.training.changes import settings_of

_PROGRESS = "epoch_loop.batch_progress"
_POSITION = "TokenDataModule"


def rewind(content: dict[str, Any]) -> None:
    """Set the position of a checkpoint that an older version wrote amid an accumulation back to its last whole step.

    The weights never learnt from the batches after it. How many those are follows from the settings that the checkpoint
    carries; without them it is left as it is.
    """
    settings = settings_of(content.get("minigpt", {}).get("yaml", ""))
    accumulate, batch_size = (settings.get(name) for name in ("trainer.accumulate_grad_batches", "data.batch_size"))
    progress = content.get("loops", {}).get("fit_loop", {}).get(_PROGRESS)
    if not (progress and isinstance(accumulate, int) and isinstance(batch_size, int) and accumulate > 0):
        return
    pending = progress["current"]["processed"] % accumulate
    if not pending:
        return
    for name in ("total", "current"):
        progress[name] = dict.fromkeys(progress[name], progress[name]["processed"] - pending)
    if position := content.get(_POSITION):
        position["batches"] -= pending
        position["windows"] -= pending * batch_size


def windows_read(content: dict[str, Any]) -> int | None:
    """Training windows of the whole steps until a checkpoint; None: an older version did not record them."""
    rewind(content)
    windows = content.get(_POSITION, {}).get("windows")
    return windows if isinstance(windows, int) else None

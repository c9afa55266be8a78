"""The metrics that callbacks may monitor: the curves by their names, and Lightning's names of the validation's."""

import re
from collections.abc import Iterable, Sequence

from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint

from minigpt.errors import ConfigError, did_you_mean
from minigpt.runs.metrics_csv import CURVES

MONITORED = (*CURVES, "val_loss", "val_perplexity", "val_bits_per_byte")
_MISSING = re.compile(r"Early stopping conditioned on metric `(.*)` which is not available")


def check_monitors(callbacks: Iterable[tuple[type, str | None]], evaluations: Sequence[str] = ()) -> None:
    """Raise ConfigError for a callback of the config that monitors what no run has, before it trains.

    `callbacks` are their classes and what they monitor, `evaluations` the labels of the run's. A callback of the user's
    own, or a LearningRateMonitor, may log more: beside one only what is not there at a validation is an error.
    """
    every = list(callbacks)
    if any(not kind.__module__.startswith("lightning.") or issubclass(kind, LearningRateMonitor) for kind, _ in every):
        return
    for kind, monitor in every:
        known = (*MONITORED, "step", "epoch") if issubclass(kind, ModelCheckpoint) else MONITORED
        if monitor is None or monitor in known or monitor.startswith(tuple(f"eval/{label}/" for label in evaluations)):
            continue
        near = (
            did_you_mean(monitor, known)
            or f": there is {', '.join([*CURVES, *(f'eval/{x}/...' for x in evaluations)])}"
        )
        raise ConfigError(f"trainer.callbacks: {kind.__name__} monitors {monitor}, which no run has{near}")


def missing_monitor(error: BaseException) -> str | None:
    """The metric that an EarlyStopping monitors and nothing has logged, if `error` says so; else None."""
    found = _MISSING.match(str(error)) if isinstance(error, RuntimeError) else None
    return found[1] if found else None

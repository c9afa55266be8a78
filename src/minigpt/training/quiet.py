"""Keep Lightning's noise off the terminal: hints about features that minigpt uses on purpose, or on purpose does
not."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

_EXPECTED = (
    # The loaders hand out ready batches: more workers gain nothing at this size, and `data.num_workers` is there.
    r".*does not have many workers.*",
    r".*This DataLoader will create .* worker processes.*",
    # A run is one endless pass; its checkpoints know the batch.
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    # The run's own folder is used on purpose; `metrics.csv` and the events are continued.
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*LeafSpec.*",
    # Nothing is scheduled by Lightning: the rate is a function of the step.
    r".*lr_scheduler.step\(\)` before `optimizer.step\(\).*",
    r".*Precision .* is not supported by the model summary.*",
    # The validation's numbers are put together over all processes before they are logged.
    r".*It is recommended to use .*sync_dist=True.*",
    r".*Trying to infer the `batch_size`.*",
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the expected warnings and Lightning's information lines for the length of the block."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""Filter what Lightning prints: known hints about features that minigpt uses, or avoids, on purpose are left out."""

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from minigpt.system.output import console as make_console

_WARNINGS = (
    # The loaders hand out ready batches: more workers gain nothing at this size, and `data.num_workers` is there.
    r".*does not have many workers.*",
    r".*This DataLoader will create .* worker processes.*",
    # A run is one endless epoch; its checkpoints know the batch.
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    # The run's own folder is used on purpose; `metrics.csv` and the events are continued.
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*LeafSpec.*",
    # Nothing is scheduled by Lightning: the rate is a function of the step.
    r".*lr_scheduler.step\(\)` before `optimizer.step\(\).*",
    r".*Precision .* is not supported by the model summary.*",
    # The table at the start says which precision is taken instead.
    r".*AMP with fp16 is not supported on CPU.*",
    # The validation's numbers are put together over all processes before they are logged.
    r".*It is recommended to use .*sync_dist=True.*",
    r".*Trying to infer the `batch_size`.*",
)
_LINES = re.compile(
    "|".join(
        [
            # The table at the start says the device, the precision and what the run goes on from.
            r"(GPU|TPU|HPU) available: ",
            r"Using (16bit|bfloat16) Automatic Mixed Precision",
            r"Restoring states from the checkpoint path at ",
            r"(Restored all states|Loaded model weights) from the checkpoint at ",
            r"LOCAL_RANK: \d+ - CUDA_VISIBLE_DEVICES: ",
            r"Initializing distributed: ",
            r"-+\ndistributed_backend=",
            # Weights alone are loaded, always: minigpt reads no other checkpoint.
            r"`weights_only` was not set",
            # Matrix products in lower precision are a choice that changes results, and `minigpt bench` measures them.
            r"You are using a CUDA device .* Tensor Cores",
            # The last lines of a run say how it ended.
            r"`Trainer.fit` stopped: `max_steps=",
            r"\s*Detected KeyboardInterrupt",
            r"(\[rank: \d+\] )?Received SIGTERM",
            # Advertisements.
            r"💡 Tip: ",
        ]
    )
)
"""Beginnings of the information lines of Lightning that are left out."""


@contextlib.contextmanager
def quiet(console: Console | None = None) -> Iterator[None]:
    """Within the block, leave out the known warnings and lines of Lightning, and show its other lines on `console`.

    They stand above a progress bar of that console. Without one, and on one that is quiet, none of its lines is shown.
    Handlers that the program has given its root logger get them too.
    """
    handler = _ToConsole(console or make_console(quiet=True))
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    handler.to_root = any(propagate for _, propagate in before)
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


class _ToConsole(logging.Handler):
    """Print on the console what the root logger does not show on the terminal."""

    to_root = False
    """Whether lines went on to the root logger before."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line once, unless it is a known one."""
        message = record.getMessage()
        if _LINES.match(message):
            return
        root = logging.getLogger()
        if self.to_root:
            root.callHandlers(record)
        terminals = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        if not (self.to_root and any(getattr(each, "stream", None) in terminals for each in root.handlers)):
            self.console.print(Text(message.strip("\n")))

"""What ends a training and a person can put right, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from minigpt.errors import ConfigError, TrainingError
from minigpt.training.checkpoints import Checkpoints
from minigpt.training.monitors import missing_monitor


@contextmanager
def in_one_line(checkpoints: Checkpoints) -> Iterator[None]:
    """Raise the known errors of Lightning and torch as minigpt's."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    except torch.OutOfMemoryError as error:
        reason = "the device is out of memory: lower data.batch_size and raise trainer.accumulate_grad_batches"
        raise TrainingError(f"{reason} by as much; {str(error).splitlines()[0]}") from error
    except RuntimeError as error:
        monitor = missing_monitor(error)
        if monitor is None:
            raise
        when = f"when step {checkpoints.saved:,} was validated; its checkpoint is written"
        raise ConfigError(
            f"trainer.callbacks: nothing had logged {monitor}, which EarlyStopping monitors, {when}"
        ) from error

"""Errors that end a training and that a person can put right, as one line."""

import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from minigpt.errors import CheckpointError, ConfigError, MinigptError, TrainingError
from minigpt.system.components import error_line, user_frame
from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.monitors import missing_monitor


@contextmanager
def in_one_line(checkpoints: Checkpoints, files: Collection[Path], resumed: Path | None = None) -> Iterator[None]:
    """Raise the known errors of Lightning and torch as minigpt's, those of the components in the user's `files` with
    their line, and any that comes while the checkpoint `resumed` is restored."""
    try:
        with _restoring(resumed):
            yield
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from error
    except torch.OutOfMemoryError as error:
        reason = "the device is out of memory: lower data.batch_size, raise trainer.accumulate_grad_batches and"
        raise TrainingError(f"{reason} run.eval_batches by as much; {str(error).splitlines()[0]}") from error
    except Exception as error:
        if not isinstance(error, MinigptError) and (frame := user_frame(error)) and Path(frame.filename) in files:
            raise TrainingError(error_line(error)) from error
        if not isinstance(error, RuntimeError):
            raise
        if "torch._dynamo" in sys.modules and isinstance(error, torch._dynamo.exc.TorchDynamoException):
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"run.compile=true cannot compile here: {reason}; false trains without") from error
        monitor = missing_monitor(error)
        if monitor is None:
            raise
        when = f"when step {checkpoints.saved:,} was validated; its checkpoint is written"
        raise ConfigError(
            f"trainer.callbacks: nothing had logged {monitor}, which EarlyStopping monitors, {when}"
        ) from error


_RESTORING = {"_restore_modules_and_callbacks", "restore_training_state"}
"""Methods of Lightning's checkpoint connector, in which a run is brought back to the state of its checkpoint."""


@contextmanager
def _restoring(resumed: Path | None) -> Iterator[None]:
    """Whatever goes wrong while a checkpoint is restored is that file's fault, or that of the user's own class."""
    try:
        yield
    except (ConfigError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        names = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
        if resumed is None or not names & _RESTORING:
            raise
        reason = str(error) if isinstance(error, CheckpointError) else error_line(error)
        raise CheckpointError(f"{resumed}: training cannot go on from it: {reason}") from error

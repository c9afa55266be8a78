"""Lightning's Trainer, set up so that it does nothing that the config did not ask for.

Left to itself, it takes arguments from PL_TRAINER_* variables, callbacks from installed packages, and a checkpoint that
it finds in the working folder; `tests/training/test_trainer.py` lists all of it.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelSummary, ProgressBar, Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from minigpt.data.batches import check_divisible
from minigpt.errors import ConfigError
from minigpt.system.precision import check_precision, full_name
from minigpt.training.callbacks.checkpoints import AtomicCheckpointIO
from minigpt.training.callbacks.overhead import NoProfiler
from minigpt.training.config import Experiment, evaluation_label
from minigpt.training.loop import refuse_epoch_callbacks
from minigpt.training.monitors import check_monitors
from minigpt.training.world import World

_NEVER = 2**62  # batches; PeriodicValidation validates instead of Lightning's interval
_UNASKED = (Timer, ModelSummary, ProgressBar)
"""Callbacks that Lightning adds itself where max_time, enable_model_summary or enable_progress_bar ask for them."""


def build_trainer(
    experiment: Experiment, world: World, folder: Path, *, callbacks: Sequence[Callback], loggers: Sequence[Logger]
) -> Trainer:
    """The Trainer of a run in `folder`, with the callbacks and loggers of minigpt and of the config.

    Raises ConfigError for arguments that Lightning refuses, or that cannot give a run that is worth its name.
    """
    wanted = experiment.trainer
    theirs: list[Callback] = listed(wanted.get("callbacks"))
    refuse_epoch_callbacks(theirs)
    labels = list(map(evaluation_label, experiment.run.evaluations))
    check_monitors(((type(callback), getattr(callback, "monitor", None)) for callback in theirs), labels)
    asked = {
        **wanted,
        "callbacks": [*callbacks, *theirs],
        "logger": list(loggers),
        "profiler": wanted.get("profiler") or NoProfiler(),
        "plugins": _plugins(wanted, world),
        "max_epochs": -1,
        "default_root_dir": str(folder),
        "enable_progress_bar": any(
            isinstance(callback, ProgressBar) for callback in theirs
        ),  # which then is the only one
        "enable_model_summary": bool(wanted.get("enable_model_summary")),
        "num_sanity_val_steps": 0,
        "val_check_interval": _NEVER,
        "check_val_every_n_epoch": None,
        "log_every_n_steps": experiment.run.log_every,
        "use_distributed_sampler": False,
    }
    # All arguments: Lightning would look for those that are left out among the variables PL_TRAINER_*.
    defaults = {name: parameter.default for name, parameter in inspect.signature(Trainer).parameters.items()}
    if wanted.get("barebones"):
        raise ConfigError(
            "trainer.barebones=true would take the curves and checkpoints away: minigpt bench times steps"
        )
    try:
        trainer = Trainer(**{**defaults, **asked})
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as error:
        raise ConfigError(f"trainer: {error}") from error
    if trainer.precision == "16-true":  # by a plugin of the config
        check_precision("16-true")
    if isinstance(trainer.strategy, FSDPStrategy):
        raise ConfigError("trainer.strategy=fsdp clips each shard by a norm of its own: use ddp")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and callback._duration is not None and callback._duration <= 0:
            given = wanted.get("max_time") if wanted.get("max_time") is not None else f"{callback._duration:g} s"
            raise ConfigError(f"trainer.max_time={given} must be more than no time, in which no step is done")
    check_divisible(experiment.data.batch_size, trainer.world_size)
    given = {id(callback) for callback in (*callbacks, *theirs)}
    trainer.callbacks = [  # type: ignore[attr-defined]
        callback
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if id(callback) in given or isinstance(callback, _UNASKED)  # and not from the entry points of some package
    ]
    # Without a path Lightning would look for SLURM's hpc_ckpt_N.ckpt and for the file of an OnExceptionCheckpoint.
    trainer._checkpoint_connector._select_ckpt_path = lambda _state, path, **_: path  # type: ignore[method-assign]
    return trainer


def ignored_variables(environment: Mapping[str, str]) -> list[str]:
    """The PL_TRAINER_* variables that another program would hand to Lightning's Trainer."""
    names = [f"PL_TRAINER_{name.upper()}" for name in inspect.signature(Trainer).parameters]
    return [name for name in names if environment.get(name)]


def listed(value: Any) -> list[Any]:
    """One value, several or none, as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _plugins(wanted: Mapping[str, Any], world: World) -> list[Any]:
    """Plugins: the config's, atomic checkpoints, and the cluster environment unless the strategy brings one."""
    if isinstance(world.environment, SLURMEnvironment):
        # Lightning would write a checkpoint of its own amid a step; `slurm.py` requeues after one of ours.
        world.environment.auto_requeue = False
    brought = getattr(wanted.get("strategy"), "cluster_environment", None)
    given = [plugin for plugin in listed(wanted.get("plugins")) if plugin is not world.environment]
    return [AtomicCheckpointIO(), *given, *([] if brought else [world.environment])]


def describe_trainer(trainer: Trainer) -> dict[str, Any]:
    """The facts that the Trainer decides and that may change a bit: devices, precision, what may be computed otherwise.

    Said of the first process; all have the same.
    """
    device = trainer.strategy.root_device
    return {
        "device": {"type": device.type, "count": trainer.world_size, "strategy": type(trainer.strategy).__name__},
        "precision": str(trainer.precision),
        "arithmetic": {
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "matmul_precision": torch.get_float32_matmul_precision(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        },
    }


def device_text(trainer: Trainer, wanted: Any) -> str:
    """`cpu, 32-true` or `2 x cuda, bf16-mixed`; `wanted` is the precision that the config asks for."""
    strategy, precision = trainer.strategy, str(trainer.precision)
    if full_name(wanted) == "16-mixed" and precision != "16-mixed":  # Lightning's choice on a CPU
        precision += f" (trainer.precision={wanted} needs a GPU)"
    count = trainer.world_size
    where = f"{count} x {strategy.root_device.type}" if count > 1 else str(strategy.root_device)
    return f"{where}, {precision}"

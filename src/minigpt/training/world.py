"""The processes that train one run together: how many there are, and which of them this one is."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import ParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.settings import refuse_spawning

_SLURM_TASK = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")

_OURS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS")
_LAUNCHERS = (
    ("torchrun", "WORLD_SIZE", TorchElasticEnvironment.detect),
    ("srun", "SLURM_NTASKS", SLURMEnvironment.detect),
)
"""A launcher, the variable with the number of its processes, whether it started this one."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of one run. The launcher's variables count only where the Trainer makes more than one process.

    A variable such as RANK that was left behind, or that belongs to a launcher which started several independent runs,
    means nothing to a run of one process.
    """

    size: int
    rank: int
    environment: ClusterEnvironment
    """The plugin that the Trainer must be given: by itself it would follow the variables."""
    requeue: bool = True
    """Whether a job of SLURM may go back into its queue: not so where the config's SLURMEnvironment says no."""

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def note(self) -> str | None:
        """A line where a launcher started several processes and each trains a run of its own; None elsewhere."""
        started = [
            (launcher, os.environ[name])
            for launcher, name, detect in _LAUNCHERS
            if self.size == 1 and name in os.environ and detect()
        ]
        if not started or started[0][1] in {"0", "1"}:
            return None
        launcher, count = started[0]
        return (
            f"{launcher} started {count} processes, each for a run of its own: trainer.devices says how many share one"
        )


def find_world(trainer: Mapping[str, Any]) -> World:
    """The processes of a run with these arguments of the Trainer. Lightning's loggers follow from here on.

    Raises ConfigError for devices that are not there and for a launcher that started another number of processes.
    """
    strategy, nodes = trainer.get("strategy") or "auto", trainer.get("num_nodes", 1)
    refuse_spawning(strategy)
    connected, devices = _connect(trainer, strategy, nodes)
    size = devices * nodes if isinstance(connected, ParallelStrategy) else 1
    given = _given_environment(trainer, strategy)
    environment = given or _find_environment(size, nodes)
    rank = 0
    if size > 1:
        try:
            environment.validate_settings(num_devices=devices, num_nodes=nodes)
        except ValueError as error:
            raise ConfigError(f"trainer: {error}") from error
        environment.set_world_size(size)
        environment.set_global_rank(environment.node_rank() * devices + environment.local_rank())
        rank = environment.global_rank()
    # Lightning read it from RANK, LOCAL_RANK, SLURM_PROCID, ... when it was imported.
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    requeue = given.auto_requeue if isinstance(given, SLURMEnvironment) else True
    return World(size=size, rank=rank, environment=environment, requeue=requeue)


def _connect(trainer: Mapping[str, Any], strategy: str | Strategy, nodes: int) -> tuple[Strategy, int]:
    """The strategy, and the devices of one node; a strategy that the config builds is left as it is."""
    given = strategy if isinstance(strategy, Strategy) else None
    devices = trainer.get("devices")
    try:
        connector = _AcceleratorConnector(
            accelerator=_accelerator(trainer.get("accelerator")),
            devices="auto" if devices is None else devices,
            num_nodes=nodes,
            strategy="auto" if given else strategy,
            plugins=[LocalEnvironment(1)],
        )
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError) as error:
        raise ConfigError(f"trainer: {error}") from error
    launcher = (given or connector.strategy).launcher
    if isinstance(launcher, _MultiProcessingLauncher) or getattr(given, "_start_method", "popen") != "popen":
        raise ConfigError(
            "trainer.strategy would copy a program amid its work: in a notebook a run takes one device; minigpt fit on "
            "the command line starts its processes anew"
        )
    return given or connector.strategy, len(getattr(given, "parallel_devices", None) or connector._parallel_devices)


def _accelerator(given: object) -> Any:
    """`trainer.accelerator`; raises ConfigError for a name of one that is not here."""
    name = "auto" if given is None else given
    if not isinstance(name, str):
        return name
    kinds = AcceleratorRegistry.available_accelerators()
    here = [kind for kind in kinds if AcceleratorRegistry[kind]["accelerator"].is_available()]
    if {"cuda", "mps"} & {*here}:
        here.append("gpu")
    if name not in {"auto", *here}:
        near = "" if name in {"gpu", *kinds} else did_you_mean(name, ["auto", "gpu", *kinds])
        raise ConfigError(f"trainer.accelerator={name} cannot be used here: auto, {', '.join(sorted(here))} can{near}")
    return name


def _given_environment(trainer: Mapping[str, Any], strategy: str | Strategy) -> ClusterEnvironment | None:
    """The one that the config names."""
    plugins = trainer.get("plugins") or []
    given = [getattr(strategy, "cluster_environment", None), *(plugins if isinstance(plugins, list) else [plugins])]
    return next((plugin for plugin in given if isinstance(plugin, ClusterEnvironment)), None)


def _find_environment(size: int, nodes: int) -> ClusterEnvironment:
    """The environment of whatever starts the processes: Lightning itself, or the launcher of this one."""
    if size == 1:
        return LocalEnvironment(1)
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect() and all(name in os.environ for name in _SLURM_TASK):
        tasks = int(os.environ["SLURM_NTASKS"])
        if tasks > 1 or nodes > 1:
            return SlurmTasks(size)
    for environment in (LSFEnvironment, MPIEnvironment):
        if environment.detect():
            return environment()
    return LocalEnvironment(size) if nodes == 1 else LightningEnvironment()


@contextlib.contextmanager
def same_variables() -> Iterator[None]:
    """Restore after the block the environment variables that Lightning sets for the processes it starts: a later run of
    this process, or a command that it starts, would take them for a launcher's."""
    before = {name: os.environ.get(name) for name in _OURS}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class LocalEnvironment(LightningEnvironment):
    """Processes of one machine, started by Lightning, or a single one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @property
    def creates_processes_externally(self) -> bool:
        """Whether this process was started as one of several."""
        return self.size > 1 and "LOCAL_RANK" in os.environ

    @property
    def main_address(self) -> str:
        """Address at which the other processes find the main one."""
        return "127.0.0.1" if self.size == 1 else super().main_address

    @property
    def main_port(self) -> int:
        """A free one for a single process: others on this machine may have been given the same MASTER_PORT."""
        return find_free_network_port() if self.size == 1 else super().main_port

    def local_rank(self) -> int:
        """The number of this process."""
        return super().local_rank() if self.size > 1 else 0

    def node_rank(self) -> int:
        """0: there is one machine."""
        return 0

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Raise ValueError for a LOCAL_RANK that was left behind: this process would wait for ever for the others."""
        started = os.environ.get("WORLD_SIZE")
        if self.size > 1 and "LOCAL_RANK" in os.environ and started != str(num_devices):
            raise ValueError(
                f"devices={num_devices} makes {num_devices} processes, but LOCAL_RANK={os.environ['LOCAL_RANK']} is "
                f"set, as by a launcher, without WORLD_SIZE={num_devices}: unset it, and Lightning starts the processes"
            )


class SlurmTasks(SLURMEnvironment):
    """The tasks of one `srun`. Requeueing is minigpt's: Lightning would save a checkpoint of its own, amid a step."""

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(auto_requeue=False)

    @staticmethod
    def _validate_srun_variables() -> None:
        """Skip the check: `validate_settings` compares numbers, whichever option of srun they come from."""

    @staticmethod
    def _validate_srun_used() -> None:
        """Skip the check: srun was used."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Raise ValueError if srun started another number of processes than the Trainer wants."""
        if self.world_size() != self.size:
            raise ValueError(
                f"devices={num_devices} x num_nodes={num_nodes} makes {self.size} processes, but srun started "
                f"{self.world_size()} tasks"
            )
        super().validate_settings(num_devices, num_nodes)

"""Divide this machine among cells: how many at a time, with how many threads or GPUs each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from minigpt.errors import ConfigError
from minigpt.system.limits import usable_cores

TASK_CPUS = 4
"""Default cores of a SLURM task: the machine that submits it need not resemble the one that runs it."""


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Slots for cells that run at the same time."""

    threads: int
    """Threads of a cell. Two busy threads on one core are ten times slower than one: they wait for each other."""
    gpus: tuple[tuple[str, ...], ...]
    """The GPUs of each slot, empty on the CPU."""

    def __len__(self) -> int:
        return len(self.gpus)

    def environment(self, slot: int) -> dict[str, str]:
        """Environment variables of the process in a slot."""
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus[slot])} if self.gpus[slot] else {}
        return {"OMP_NUM_THREADS": str(self.threads), **visible}


def check_shares(*, n_gpus: int, gpus_per_cell: int | None, cpus_per_cell: int | None) -> None:
    """Raise ConfigError if a cell is to have more than the machine has: it could never start."""
    for name, wanted, there, what in (
        ("gpus_per_cell", gpus_per_cell, n_gpus, "GPUs that CUDA sees here"),
        ("cpus_per_cell", cpus_per_cell, usable_cores(), "cores of this machine"),
    ):
        if wanted is not None and wanted > there:
            raise ConfigError(f"--{name} {wanted} must be at most the number of {what}, {there}")


def share_out(
    jobs: int | None, *, n_cells: int, gpus: Sequence[str], gpus_per_cell: int, threads: int | None = None
) -> Slots:
    """Make `jobs` slots; by default one per `gpus_per_cell` GPUs, or without GPUs one per `threads` cores, but no more
    than cells. Without `threads` the slots share the cores."""
    cores = usable_cores()
    if gpus:
        groups = [tuple(gpus[i : i + gpus_per_cell]) for i in range(0, len(gpus), gpus_per_cell)]
        groups = [group for group in groups if len(group) == gpus_per_cell] or [tuple(gpus)]
    else:
        groups = [()] * max(1, cores // (threads or 1))
    n_slots = jobs or min(len(groups), max(1, n_cells))
    return Slots(
        threads=threads or max(1, cores // n_slots), gpus=tuple(groups[slot % len(groups)] for slot in range(n_slots))
    )


def undivided(gpus: Sequence[str], threads: int | None = None) -> Slots:
    """One slot with all GPUs and cores; with `threads` of the cores if given."""
    return Slots(threads=threads or usable_cores(), gpus=(tuple(gpus),))


def threads_wanted() -> int | None:
    """$OMP_NUM_THREADS, if it is a positive number."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else None


def has_apple_gpu() -> bool:
    """Whether this machine has an Apple GPU (Metal). Imports torch."""
    import torch

    return torch.backends.mps.is_available()


def visible_gpus() -> list[str]:
    """The visible GPUs, as named in CUDA_VISIBLE_DEVICES. Imports torch."""
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = chosen.split(",") if chosen else [str(number) for number in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]

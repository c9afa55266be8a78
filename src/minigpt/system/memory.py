"""How much memory this computer lets us have."""

import os
from pathlib import Path

from minigpt.system.cgroups import ROOT, group_folders, lines_of

_LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Of version 2 and of version 1."""


def machine_bytes(root: Path = ROOT) -> float:
    """Memory of this machine, or of the container or job that this process is in, where that is less.

    Infinity where the system tells neither. `root` is the file system that is looked at.
    """
    return min(_physical_bytes(), cgroup_bytes(root))


def cgroup_bytes(root: Path = ROOT) -> float:
    """The least memory limit of this process's control groups; infinity without one (or Linux)."""
    limits = (line for folder in group_folders("memory", root) for name in _LIMITS for line in lines_of(folder / name))
    return min((float(line) for line in limits if line.isdecimal()), default=float("inf"))


def _physical_bytes() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")

"""The cores and the memory that this process may use, of the machine, a container or a batch system's job."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
"""The folder that holds /proc and /sys."""


def group_folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """The folders of the control groups that may limit `controller` (`cpu`, `memory`), from the process's own outwards.

    Covers the single hierarchy of cgroup version 2 and the controller's own of version 1. In a container the path of a
    group may be the host's, which is not mounted; the outermost folder, always included, is the container's own. A
    limit applies to all groups below it. The folders need not exist. Source: the kernel's admin-guide/cgroup-v2 and
    cgroup-v1.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    paths = [("", "/"), (controller, "/")]  # the outermost groups, whatever /proc says
    for line in lines_of(root / "proc" / "self" / "cgroup"):
        fields = line.split(":", 2)
        if len(fields) == 3 and (not fields[1] or controller in fields[1].split(",")):
            paths.append((fields[1], fields[2]))
    for controllers, path in paths:
        for mount in (controllers, controller) if controllers else ("", "unified"):
            top = mounts / mount
            inner = top / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def lines_of(path: Path) -> list[str]:
    """The lines of a kernel file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may use, at least one: a batch system or a container may allow fewer than there are.

    The minimum of its affinity mask and the CPU quota of its control groups, rounded down. `root` holds /proc and
    /sys.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_core_limits(root)])))


def _core_limits(root: Path) -> Iterator[float]:
    """The number of cores that each group allows: cpu.max of version 2, quota / period of version 1."""
    for folder in group_folders("cpu", root):
        if limit := _words(folder / "cpu.max"):
            quota, period = limit[0], limit[-1]
        else:
            quota, period = (next(iter(_words(folder / f"cpu.cfs_{what}_us")), "") for what in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):  # max and -1 mean no limit
            yield int(quota) / int(period)


def _words(path: Path) -> list[str]:
    return next(iter(lines_of(path)), "").split()


_MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
"""Files of version 2 and of version 1."""


def machine_bytes(root: Path = ROOT) -> float:
    """Memory of this machine, or of the container or job that this process is in, if that is less.

    Infinity if neither is known. `root` holds /proc and /sys.
    """
    return min(_physical_bytes(), cgroup_bytes(root))


def cgroup_bytes(root: Path = ROOT) -> float:
    """The smallest memory limit of this process's control groups; infinity if there is none, or no Linux."""
    limits = (
        line for folder in group_folders("memory", root) for name in _MEMORY_FILES for line in lines_of(folder / name)
    )
    return min((float(line) for line in limits if line.isdecimal()), default=float("inf"))


def _physical_bytes() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")

"""The cores and the memory that this process may use, of the machine, a container or a batch system's job."""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
"""Where /proc and /sys lie."""


def group_folders(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """The folders of the groups that may bound `controller` (`cpu`, `memory`), from this process's own outwards.

    Of both versions: the one hierarchy of version 2, and the controller's own of version 1. In a container a group's
    path may be the host's, which is not mounted; the outermost folder, always among these, is the container's own. A
    limit holds for all groups below. Nothing says that a folder is there. Source: the kernel's
    admin-guide/cgroup-v2 and cgroup-v1.
    """
    mounts = root / "sys" / "fs" / "cgroup"
    paths = [("", "/"), (controller, "/")]  # the tops, whatever /proc says
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
    """Of a file of the kernel's; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy, at least one: a batch system or a container gives fewer than there are.

    Those of its affinity mask, or what its control groups leave it of their time, whichever is less; part of a core is
    none. `root` is where /proc and /sys lie.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_core_limits(root)])))


def _core_limits(root: Path) -> Iterator[float]:
    """The cores' worth of time that each group allows: cpu.max of version 2, the quota and its period of version 1."""
    for folder in group_folders("cpu", root):
        if limit := _words(folder / "cpu.max"):
            quota, period = limit[0], limit[-1]
        else:
            quota, period = (next(iter(_words(folder / f"cpu.cfs_{what}_us")), "") for what in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):  # neither max nor -1: no limit
            yield int(quota) / int(period)


def _words(path: Path) -> list[str]:
    return next(iter(lines_of(path)), "").split()


_MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
"""Of version 2 and of version 1."""


def machine_bytes(root: Path = ROOT) -> float:
    """Memory of this machine, or of the container or job that this process is in, where that is less.

    Infinity where the system tells neither. `root` is the file system that is looked at.
    """
    return min(_physical_bytes(), cgroup_bytes(root))


def cgroup_bytes(root: Path = ROOT) -> float:
    """The least memory limit of this process's control groups; infinity without one (or Linux)."""
    limits = (
        line for folder in group_folders("memory", root) for name in _MEMORY_FILES for line in lines_of(folder / name)
    )
    return min((float(line) for line in limits if line.isdecimal()), default=float("inf"))


def _physical_bytes() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")

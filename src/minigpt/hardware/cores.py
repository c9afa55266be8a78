"""How many of the processor's cores this process may use (no torch here)."""

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy, at least one: a batch system or a container gives fewer than there are.

    Those of its affinity mask, or what the cgroups that it is in leave it of their time, whichever is less; part of a
    core is none. `root` is where /proc and /sys lie. Source: the kernel's admin-guide/cgroup-v2, cpu.max, and
    scheduler/sched-bwc, cpu.cfs_quota_us.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_limits(root)])))


def _limits(root: Path) -> Iterator[float]:
    """The cores' worth of time that each cgroup above this process allows; nothing where the system has none."""
    for folder in _cgroups(root):
        if limit := _words(folder / "cpu.max"):
            quota, period = limit[0], limit[-1]
        else:
            quota, period = (next(iter(_words(folder / f"cpu.cfs_{what}_us")), "") for what in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):  # neither max nor -1: no limit
            yield int(quota) / int(period)


def _cgroups(root: Path) -> Iterator[Path]:
    """The folders of the cgroups of this process that may bound its time, up to the outermost that it sees.

    In a container the path may be the host's, which is not there; the outermost is then the container's own.
    """
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in [controllers, "cpu"] if controllers else ["", "unified"]:
            top = root / "sys" / "fs" / "cgroup" / mount
            inner = top / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _words(path: Path) -> list[str]:
    return next(iter(_lines(path)), "").split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []

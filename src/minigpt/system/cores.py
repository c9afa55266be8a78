"""How many of the processor's cores this process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

from minigpt.system.cgroups import ROOT, group_folders, lines_of


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy, at least one: a batch system or a container gives fewer than there are.

    Those of its affinity mask, or what its control groups leave it of their time, whichever is less; part of a core is
    none. `root` is where /proc and /sys lie.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_limits(root)])))


def _limits(root: Path) -> Iterator[float]:
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

"""How much memory this computer lets us have (no torch here)."""

import os
from pathlib import Path

ROOT = Path("/")
_MOUNTS = (
    # mount, the controllers that name its line in /proc/self/cgroup (version 2 names none), the file with the limit
    ("sys/fs/cgroup", "", "memory.max"),
    ("sys/fs/cgroup/memory", "memory", "memory.limit_in_bytes"),
)
"""Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst."""


def machine_bytes(root: Path = ROOT) -> float:
    """Memory of this machine, or of the container or job that this process is in, where that is less.

    Infinity where the system tells neither. `root` is the file system that is looked at.
    """
    return min(_physical_bytes(), cgroup_bytes(root))


def cgroup_bytes(root: Path = ROOT) -> float:
    """The least memory limit of this process's control group and of those above it; infinity without one (or Linux)."""
    limits = [float("inf")]
    for mount, controller, name in _MOUNTS:
        top = root / mount
        # In a container the group's own path often is not mounted, and what is mounted at the top is the container's.
        for group in {"/", *_groups(root, controller)}:
            here = top / group.lstrip("/")
            for folder in (here, *here.parents):
                limits.append(_limit(folder / name))
                if folder == top:
                    break
    return min(limits)


def _physical_bytes() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _groups(root: Path, controller: str) -> list[str]:
    """This process's groups of a controller: the third field of `4:memory:/docker/1f`, or of `0::/user.slice`."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    fields = [line.split(":", 2) for line in lines]
    return [field[2] for field in fields if len(field) == 3 and controller in field[1].split(",")]


def _limit(path: Path) -> float:
    """Bytes in a file of the kernel's; infinity for `max`, and for one that cannot be read."""
    try:
        return float(int(path.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return float("inf")

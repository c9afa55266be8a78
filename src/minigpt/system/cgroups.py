"""The control groups of this process, by which Linux, a container or a batch system bounds what it may use."""

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

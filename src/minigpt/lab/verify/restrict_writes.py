"""Let somebody's callbacks run, but write nowhere else than in one folder.

Python tells of every file that its own functions open, make, move or remove (PEP 578), and torch.save, which writes
from C++, is asked beforehand. A library that writes by itself, or a process that a callback starts, is not seen: this
keeps honest callbacks from doing twice what they did once, it is no prison.
"""

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from minigpt.errors import CheckpointError

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
}
"""Audit event -> how many of its first arguments are paths that it changes."""
_HOOKS = ("setup", "teardown", "state_dict", "load_state_dict")


class _Confinement:
    """Who is running, and where it may write; None: nobody is confined."""

    writer: str | None = None
    folder = Path()
    listening = False


def confine(callback: Callback, folder: Path) -> None:
    """Make each hook of `callback` raise CheckpointError where it would write outside of `folder`."""
    for name in dir(Callback):
        if name.startswith("on_") or name in _HOOKS:
            hook = getattr(callback, name)
            if getattr(hook, "__func__", None) is not getattr(Callback, name):  # overridden
                setattr(callback, name, _confined(hook, f"the config's {type(callback).__name__}", folder))


def _confined(hook: Callable[..., Any], writer: str, folder: Path) -> Callable[..., Any]:
    @functools.wraps(hook)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with confined(writer, folder):
            return hook(*args, **kwargs)

    return inside


@contextlib.contextmanager
def confined(writer: str, folder: Path) -> Iterator[None]:
    """For the length of the block, writing outside of `folder` raises CheckpointError, which names `writer`.

    Temporary files lie in `folder` too.
    """
    if not _Confinement.listening:  # a hook of this kind stays for the life of the process
        sys.addaudithook(_audit)
        _Confinement.listening = True
    before = _Confinement.writer, _Confinement.folder
    real_writer = torch._C.PyTorchFileWriter

    def checked_writer(target: Any, *args: Any, **kwargs: Any) -> Any:
        _check(target)
        return real_writer(target, *args, **kwargs)

    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # of modules that are imported meanwhile
    temporary, tempfile.tempdir = tempfile.tempdir, str(folder)
    _Confinement.writer, _Confinement.folder = writer, folder.resolve()
    torch._C.PyTorchFileWriter = checked_writer  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        _Confinement.writer, _Confinement.folder = before
        sys.dont_write_bytecode, tempfile.tempdir = bytecode, temporary
        torch._C.PyTorchFileWriter = real_writer  # type: ignore[misc]


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _Confinement.writer is None:
        return
    if event == "open" and args[2] & _WRITES:
        _check(args[0])
    for path in args[: _CHANGES.get(event, 0)]:
        _check(path)


def _check(path: Any) -> None:
    """Raise CheckpointError if `path` lies elsewhere. An open file's number is what was checked when it was opened."""
    writer = _Confinement.writer
    if writer is None or not isinstance(path, str | bytes | os.PathLike) or os.fsdecode(path) == os.devnull:
        return
    _Confinement.writer = None  # resolving asks the file system, which is told here too
    try:
        inside = Path(os.fsdecode(path)).resolve().is_relative_to(_Confinement.folder)
    finally:
        _Confinement.writer = writer
    if not inside:
        raise CheckpointError(
            f"{writer} writes to {os.fsdecode(path)}, and verify writes to nothing but a folder of its own: leave that "
            "class out with --leave_out CLASS"
        )

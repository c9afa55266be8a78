"""Writing files so that nothing half-written is ever left under a final name."""

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from minigpt.system.output import REPLACEMENT


def home_path(name: str | Path) -> Path:
    """The path of that name, `~` and `~user` being home folders; as it stands where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


@contextlib.contextmanager
def atomic_path(target: Path, hidden_name: str = "") -> Iterator[Path]:
    """Give a temporary path beside `target`; sync it and rename it to `target` if the block succeeds.

    The temporary file lies in the target's own folder: a rename is atomic only within one file system. If the block
    raises, `target` is untouched and the temporary file is removed. A kill leaves `.NAME.tmp-PID` behind, never
    half a target; `remove_leftovers` clears these. `hidden_name` stands for NAME where a reader of the folder would
    take any file whose name holds NAME for the real one.
    """
    temporary = target.with_name(f".{hidden_name or target.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def atomic_write(target: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8, of a path's lone bytes their escapes) to `target`, whole or not at all."""
    data = content.encode("utf-8", REPLACEMENT) if isinstance(content, str) else content
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target`; sync its files and rename it to `target` if the block succeeds.

    A folder that stands there already is replaced as a whole, and stays as it was if the block raises. A kill leaves
    `.NAME.new-PID` behind, or in the moment between two renames `.NAME.old-PID` as well, never half a target:
    `restore_folder` puts this right.
    """
    temporary = target.with_name(f".{target.name}.new-{os.getpid()}")
    replaced = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        temporary.mkdir()
    except OSError as error:  # the user knows the target
        raise type(error)(error.errno, error.strerror, str(target)) from None
    try:
        yield temporary
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        _sync_folder(temporary)
        if target.exists():
            target.rename(replaced)
        try:
            temporary.rename(target)
        except OSError:
            if replaced.exists():
                replaced.rename(target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    _sync_folder(target.parent)


def restore_folder(target: Path) -> None:
    """Undo what `atomic_folder` left of a process that was killed: the old folder gets its name back, the rest goes.

    What belongs to a process that is still running stays.
    """
    for old in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        if _writer_is_gone(old) and not target.exists():
            old.rename(target)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.[no]*-*"):
        if _writer_is_gone(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def remove_folder(target: Path, last: str) -> None:
    """Delete the folder `target`: gone from its name at once and as a whole, then from the disk, the file `last` last.

    A kill leaves `.NAME.gone-PID` behind, which `remove_gone` clears.
    """
    hidden = target.with_name(f".{target.name}.gone-{os.getpid()}")
    target.rename(hidden)
    _sync_folder(target.parent)
    _remove_inside(hidden, last)


def remove_gone(folder: Path, last: str, is_ours: Callable[[Path], bool]) -> None:
    """Finish what killed processes began to delete in `folder`: a folder of such a name that `is_ours`."""
    for leftover in folder.glob(".*.gone-*"):
        if _writer_is_gone(leftover) and not leftover.is_symlink() and is_ours(leftover):
            with contextlib.suppress(OSError):
                _remove_inside(leftover, last)


def _remove_inside(folder: Path, last: str) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != last:
            path.unlink()
    shutil.rmtree(folder)


def _writer_is_gone(leftover: Path) -> bool:
    """Whether the process whose number ends the name of `leftover` no longer runs; false for any other name."""
    match = re.fullmatch(r"\..*\.(new|old|gone)-(\d+)", leftover.name)
    if match is None or int(match[2]) == os.getpid():
        return False
    try:
        os.kill(int(match[2]), 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's
        return False
    return False


def remove_leftovers(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove what killed writers left in `folder` of the files whose names `is_ours` knows."""
    for leftover in folder.glob(".*.tmp-*"):
        name = written_as(leftover.name)
        if name != leftover.name and is_ours(name) and leftover.is_file():
            leftover.unlink(missing_ok=True)


def written_as(name: str) -> str:
    """The name that a temporary file of `atomic_path` was to have; that of any other file as it is."""
    match = re.fullmatch(r"\.(.+)\.tmp-\d+", name)
    return match[1] if match else name


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut. Not every system can open a folder; there the rename alone must do."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

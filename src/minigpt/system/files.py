"""Write files so that nothing half-written is ever left under a final name."""

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from minigpt.system.output import REPLACEMENT


def home_path(name: str | Path) -> Path:
    """Expand `~` and `~user`; a path with an unknown user is returned unchanged."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


@contextlib.contextmanager
def atomic_path(target: Path, hidden_name: str = "") -> Iterator[Path]:
    """Yield a temporary path beside `target`; sync it and rename it to `target` if the block succeeds.

    The temporary file lies in the target's own folder: a rename is atomic only within one file system. If the block
    raises, `target` is untouched and the temporary file is removed. A kill leaves `.NAME.tmp-PID` behind, never
    half a target; `remove_leftovers` removes these. `hidden_name` replaces NAME where a reader of the folder would
    mistake any file with NAME in its name for the real one.
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
    """Write `content` (text as UTF-8, undecodable bytes of paths as escapes) to `target`, whole or not at all."""
    data = content.encode("utf-8", REPLACEMENT) if isinstance(content, str) else content
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; sync its files and rename it to `target` if the block succeeds.

    An existing folder is replaced as a whole, and is unchanged if the block raises. A kill leaves
    `.NAME.new-PID` behind, or in the moment between two renames `.NAME.old-PID` as well, never half a target:
    `restore_folder` repairs this.
    """
    temporary = target.with_name(f".{target.name}.new-{os.getpid()}")
    replaced = target.with_name(f".{target.name}.old-{os.getpid()}")
    try:
        temporary.mkdir()
    except OSError as error:  # name the path that the user knows
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
    """Clean up after a killed `atomic_folder`: restore the old folder and remove the rest.

    Folders of running processes are left alone.
    """
    for old in target.parent.glob(f".{glob.escape(target.name)}.old-*"):
        if _writer_is_gone(old) and not target.exists():
            old.rename(target)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.[no]*-*"):
        if _writer_is_gone(leftover):
            shutil.rmtree(leftover, ignore_errors=True)


def remove_folder(target: Path, last: str) -> None:
    """Delete the folder `target`: rename it away at once, then delete its files, with `last` last.

    A kill leaves `.NAME.gone-PID` behind, which `remove_gone` removes.
    """
    hidden = target.with_name(f".{target.name}.gone-{os.getpid()}")
    target.rename(hidden)
    _sync_folder(target.parent)
    _remove_inside(hidden, last)


def remove_gone(folder: Path, last: str, is_ours: Callable[[Path], bool]) -> None:
    """Finish deletions in `folder` that killed processes began, of folders for which `is_ours` holds."""
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
    """Whether the process whose id ends the name of `leftover` no longer runs; false for any other name."""
    match = re.fullmatch(r"\..*\.(new|old|gone)-(\d+)", leftover.name)
    if match is None or int(match[2]) == os.getpid():
        return False
    try:
        os.kill(int(match[2]), 0)  # signal 0 only checks
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's process
        return False
    return False


def remove_leftovers(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove temporary files that killed writers left in `folder`, of files whose names `is_ours` accepts."""
    for leftover in folder.glob(".*.tmp-*"):
        name = written_as(leftover.name)
        if name != leftover.name and is_ours(name) and leftover.is_file():
            leftover.unlink(missing_ok=True)


def written_as(name: str) -> str:
    """The final name of a temporary file of `atomic_path`; any other name unchanged."""
    match = re.fullmatch(r"\.(.+)\.tmp-\d+", name)
    return match[1] if match else name


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Not every system can open a folder; there the rename alone must do."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

"""Write and read files of `torch.save` with a checksum: whole or not at all, and without ever running code.

The file is an ordinary zip that `torch.load` opens anywhere. The sha256 of its bytes stands in the comment that a zip
may end with, where torch does not look, so that one changed bit anywhere in the file is found.
"""

import hashlib
import os
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from minigpt.errors import CheckpointError
from minigpt.system.files import atomic_path

_LABEL = b"sha256:"
_COMMENT_BYTES = len(_LABEL) + 64
_CHUNK = 1 << 22
_BEGINNINGS = (b"PK", b"\x80\x02")
"""First bytes of what torch.save writes: a zip, and before torch 1.6 a pickle."""


class _Summed:
    """A file that computes the sha256 of what is written to it, from front to back."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.sum = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Write and update the sum."""
        self.sum.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        """Flush the file; torch.save asks for it."""
        self.file.flush()


def write_archive(content: dict[str, Any], path: Path) -> None:
    """Write `content` (plain values and tensors) to `path`: beside it first, synced, then renamed.

    Raises CheckpointError with the reason when the disk does not take it; `path` is then as it was before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            summed = _Summed(file)
            torch.save(content, cast(IO[bytes], summed))
            # The zip's last two bytes say how long its comment is: none yet.
            file.seek(-2, os.SEEK_END)
            file.write(_COMMENT_BYTES.to_bytes(2, "little"))
            file.write(_LABEL + summed.sum.hexdigest().encode())
    except (OSError, RuntimeError) as error:
        # A write that fails makes torch.save fail once more, with a RuntimeError, when it closes the zip.
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise CheckpointError(f"cannot write {path}: {reason}") from error


def read_archive(path: Path, map_location: str | torch.device = "cpu") -> Any:
    """Read the content of `path` after verifying its checksum; tensors are mapped from the file, not copied.

    Raises CheckpointError, one line that begins with the path, for a file that is truncated, damaged, no file of
    torch.save, or that holds pickled objects, which could run code and are never loaded.
    """
    if not is_complete(path):
        raise CheckpointError(_why_not_complete(path))
    check_sum(path)
    return load_safely(path, map_location, mmap=True)


def load_safely(path: Path, map_location: str | torch.device = "cpu", *, mmap: bool = False) -> Any:
    """Load a file of torch.save of any origin without executing anything in it; every failure is a CheckpointError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of odd bytes before it raises
            # weights_only: a pickle may name no function but those that build tensors and plain values.
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:  # damaged bytes may raise anything at all; none of it is a fault of this program
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        with path.open("rb") as file:
            beginning = file.read(2)
        if beginning not in _BEGINNINGS:
            reason = "it is no file that torch.save writes"
        elif "eights only" in reason or "nsupported" in reason:
            reason = "it holds pickled objects, which could run code and are never loaded"
        raise CheckpointError(f"{path} cannot be loaded: {reason}") from error


def is_complete(path: str | Path) -> bool:
    """Whether `path` is a whole file of `torch.save`, judged by the table at the end of the zip: no weight is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):  # the last two: a garbled table
        return False


def check_sum(path: Path) -> None:
    """Raise CheckpointError if the bytes of the archive `path` are not those that were written.

    Without a comment (a file that a notebook saved with torch.save) the zip's own CRC-32 of each part must do.
    """
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
        if not comment:
            try:
                damaged = archive.testzip()
            except Exception:  # garbled bytes may ask for a password, another compression, anything
                damaged = "its table"
            if damaged is not None:
                raise CheckpointError(f"{path} is damaged: {damaged} does not have the checksum it was written with")
            return
    body = path.stat().st_size - _COMMENT_BYTES - 2
    summed = hashlib.sha256()
    with path.open("rb") as file:
        for position in range(0, body, _CHUNK):
            summed.update(file.read(min(_CHUNK, body - position)))
        end = file.read()
    summed.update(bytes(2))  # when torch.save was done, the comment's length was zero
    if end != _COMMENT_BYTES.to_bytes(2, "little") + _LABEL + summed.hexdigest().encode():
        raise CheckpointError(f"{path} is damaged: its bytes do not have the sha256 they were written with")


def _why_not_complete(path: Path) -> str:
    try:
        with path.open("rb") as file:
            beginning = file.read(2)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if not beginning:
        return f"{path} is empty: a checkpoint has 0 bytes only where writing it failed"
    if beginning == b"PK":  # how every zip begins
        return f"{path} is truncated: its {path.stat().st_size} bytes lack the table that ends a checkpoint"
    return f"{path} is not a checkpoint: it is no file that torch.save writes"

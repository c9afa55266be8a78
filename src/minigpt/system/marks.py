"""The mark that minigpt writes into its folders, so that it never replaces anybody else's."""

from pathlib import Path
from typing import Literal

from minigpt.system.files import atomic_write

MARK = ".minigpt"
"""A file that is written first into a folder and names its kinds, one per line."""

Kind = Literal["run", "prepared text", "report"]
_HEADER_BYTES = 4096


def write_mark(folder: Path, kind: Kind) -> None:
    """Mark the existing `folder` as a `kind` of minigpt's."""
    if not has_mark(folder, kind):
        path = folder / MARK
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        atomic_write(path, f"{before}minigpt {kind}\n")


def has_mark(folder: Path, kind: Kind) -> bool:
    """Whether `folder` is marked as a `kind`."""
    return f"minigpt {kind}".encode() in beginning_of(folder / MARK).splitlines()


def may_replace(path: Path, beginning: bytes) -> bool:
    """Whether `path` is free, an empty file, or a file of ours, with `beginning` in its first 4 KiB."""
    return not path.exists() or (path.is_file() and (path.stat().st_size == 0 or beginning in beginning_of(path)))


def beginning_of(path: Path) -> bytes:
    """The first 4 KiB of a file; empty for a folder, a pipe or an unreadable file."""
    try:
        if not path.is_file():  # reading a pipe would block
            return b""
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except OSError:
        return b""

"""The mark that minigpt writes into a folder that it takes, so that it never replaces a folder of anybody else's."""

from pathlib import Path
from typing import Literal

from minigpt.system.files import atomic_write

MARK = ".minigpt"
"""A file that is written first into a folder that is taken, and says for what, a line each."""

Kind = Literal["run", "prepared text", "report"]
_HEADER_BYTES = 4096


def write_mark(folder: Path, kind: Kind) -> None:
    """Say in `folder`, which exists, that minigpt has taken it as a `kind`."""
    if not has_mark(folder, kind):
        path = folder / MARK
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        atomic_write(path, f"{before}minigpt {kind}\n")


def has_mark(folder: Path, kind: Kind) -> bool:
    """Whether minigpt has taken `folder` as a `kind`."""
    return f"minigpt {kind}".encode() in beginning_of(folder / MARK).splitlines()


def may_replace(path: Path, beginning: bytes) -> bool:
    """Whether nothing, an empty file, or one that has `beginning` in its first lines is at `path`: no other is ours."""
    return not path.exists() or (path.is_file() and (path.stat().st_size == 0 or beginning in beginning_of(path)))


def beginning_of(path: Path) -> bytes:
    """The first 4 KiB of a file; nothing for a folder, a pipe or what cannot be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return b""
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except OSError:
        return b""

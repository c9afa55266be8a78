"""The cache folder, and what it remembers about files so that a large one is not read twice for the same answer."""

import contextlib
import hashlib
import os
from pathlib import Path

from minigpt.system.files import atomic_write, home_path


def cache_root() -> Path:
    """The folder for everything that can be made again: $MINIGPT_CACHE, or ~/.cache/minigpt."""
    chosen = os.environ.get("MINIGPT_CACHE")
    return home_path(chosen) if chosen else Path.home() / ".cache" / "minigpt"


def file_state(path: Path) -> tuple[int, int]:
    """(size, time of the last change in ns): a file in the same state is taken to have the same content."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def recall(question: str, path: Path) -> str | None:
    """The answer that was remembered for `path` in its present state, or None."""
    try:
        return _note(question, path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def remember(question: str, path: Path, answer: str) -> None:
    """Keep `answer` for `path` as it is now. A cache that cannot be written costs time, never the result."""
    with contextlib.suppress(OSError):
        note = _note(question, path)
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, answer)


def _note(question: str, path: Path) -> Path:
    state = f"{path.resolve()} {file_state(path)}".encode(errors="surrogateescape")
    return cache_root() / "memo" / f"{question}-{hashlib.sha256(state).hexdigest()[:32]}"

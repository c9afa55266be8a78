"""The folder that a corpus is prepared into: what lies in it, what is ours, one process at a time."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from minigpt.data.prepared import INDEX_NAME, is_prepared, read_index
from minigpt.data.progress import Progress
from minigpt.data.splitting import SIDES
from minigpt.errors import DataError
from minigpt.system.files import remove_leftovers, written_as
from minigpt.system.marks import MARK, has_mark

_WORK = 3
"""Part of the name of unfinished work: raised when an earlier version's cannot be gone on with."""


@contextmanager
def lock(out: Path, report: Progress) -> Iterator[None]:
    """One process at a time prepares a folder; the system takes the lock back from one that is killed."""
    held = FileLock(out / ".lock")
    try:
        held.acquire(timeout=0.5)
    except Timeout:
        report("waiting for another process", 0, 0)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def holds(folder: Path, key: str) -> bool:
    """Whether the result of `key` is in `folder`, as this version writes it. What cannot be read is made anew."""
    try:
        index = read_index(folder) if is_prepared(folder) else None
        return index is not None and key in index["meta"]["keys"] and all(index[side]["text_sha256"] for side in SIDES)
    except (DataError, KeyError, TypeError):
        return False


def check_folder(out: Path) -> None:
    """A folder with something else in it is not ours to write into."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file, where a folder for the shards must be")
    # One look at the names, then at the mark: another process may begin or end its preparation right now.
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    strange = sorted(name for name in names if written_as(name) not in {".lock", MARK})
    if strange and not has_mark(out, "prepared text") and not is_prepared(out) and not _is_begun(out, strange):
        raise DataError(f"{out}: holds other files ({strange[0]}, for one); give a new or an empty folder")


def _is_begun(out: Path, names: Sequence[str]) -> bool:
    """Whether a preparation of before there were marks was stopped in `out`: nothing else lies there."""
    pieces = [entry.name for entry in (out / ".work").glob("*")]
    others = {written_as(name) for name in names} - {".work"}
    ours = all(map(_WORK_NAME.fullmatch, pieces)) and all(map(_is_ours, others))
    return bool(pieces) and ours and INDEX_NAME not in others


def _is_ours(name: str) -> bool:
    """Whether a preparation writes files of that name."""
    return _OURS.fullmatch(name) is not None


_OURS = re.compile(r"index\.json|tokenizer-[0-9a-f]{16}\.json|(train|val)-[0-9a-f]{8}-\d{5}\.bin|\.minigpt|\.lock")
_WORK_NAME = re.compile(r"[0-9a-f]{16}(-\d+)?")


def refuse_other(out: Path, key: str) -> None:
    """Raise DataError for a folder with another prepared text; one that is damaged or was only begun is none."""
    try:
        meta = read_index(out).get("meta") if is_prepared(out) else None
    except DataError:
        return
    if isinstance(meta, dict) and key not in meta.get("keys", ()):
        what = ", ".join(f"{name}={meta.get(name)}" for name in ("corpus", "tokenizer", "vocab_size"))
        raise DataError(f"{out}: holds another prepared text ({what}); --overwrite replaces it")


def work_folder(out: Path, key: str) -> Path:
    """The folder of finished pieces; what was begun for another content is removed."""
    work = out / ".work" / f"{key[:16]}-{_WORK}"
    for other in (out / ".work").glob("*"):
        if other != work and _WORK_NAME.fullmatch(other.name):
            shutil.rmtree(other)
    work.mkdir(parents=True, exist_ok=True)
    remove_leftovers(work, lambda _: True)  # all that is in there is ours
    remove_leftovers(out, _is_ours)
    return work


def remove_others(out: Path) -> None:
    """Remove what the index does not name: the work that is done, and shards of an earlier content."""
    index = read_index(out)
    named = {index["tokenizer"], *(name for side in SIDES for name in index[side]["shards"])}
    for path in [*out.glob("*.bin"), *out.glob("tokenizer-*.json")]:
        if path.name not in named and _is_ours(path.name):
            path.unlink()
    for work in (out / ".work").glob("*"):
        if _WORK_NAME.fullmatch(work.name):
            shutil.rmtree(work, ignore_errors=True)
    with suppress(OSError):  # something else lies in it
        (out / ".work").rmdir()

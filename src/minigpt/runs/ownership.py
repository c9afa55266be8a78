"""Find the runs and sweeps of minigpt, and the files in them that no run wrote.

Common names (`config.yaml`, `sweep.json`, `index.json`) say nothing: only what carries a mark is listed, compared,
replaced or deleted.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from minigpt.runs.paths import CHECKPOINTS, CODE, EARLIER, LINES, PROVENANCE, SWEEP
from minigpt.system.files import written_as
from minigpt.system.marks import beginning_of, has_mark

_RUN_NAMES = r"config\.yaml|metrics\.csv|provenance\.json|tokenizer\.json|events\.out\.tfevents\..+|std(out|err)\.log"
_RUN_FILE = {
    "": re.compile(_RUN_NAMES),
    "checkpoints": re.compile(r"(step=\d+|best)\.ckpt"),
    "divergences": re.compile(r"step=\d+\.pt"),
    **dict.fromkeys(LINES, re.compile(r"events\.out\.tfevents\..+")),
}
"""What a run, and the sweep that trains it, write: in its folder and in the folders inside it."""
_HIDDEN = re.compile(r"\.minigpt|\.lock|\.stop|\.DS_Store")
"""The last is a desktop's, and holds nothing."""
_PROVENANCE = re.compile(rb'\s*\{\s*"sessions"\s*:\s*\[\s*\{[^{}]*"(command|started|data_fingerprint)"')
_SWEEP = re.compile(rb'\s*\{\s*"format"\s*:\s*\d+\s*,\s*"(name|cells)"\s*:')
_HEADER_KEYS = (b"minigpt", b"data_fingerprint", b"provenance", b"tokenizer")


def is_run(folder: Path) -> bool:
    """Whether minigpt trained, or began to train, in `folder`.

    Runs of before there were marks, and copies without hidden files, are known by their provenance.json or by the
    header of a checkpoint.
    """
    if has_mark(folder, "run") or _PROVENANCE.match(beginning_of(folder / PROVENANCE)):
        return True
    return any(is_checkpoint(path) for path in sorted((folder / CHECKPOINTS).glob("*.ckpt")))


def is_sweep(folder: Path) -> bool:
    """Whether minigpt wrote the sweep.json of `folder`, cut short or not."""
    return _SWEEP.match(beginning_of(folder / SWEEP)) is not None


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a checkpoint that minigpt wrote, by the keys of its header; no weight is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            content = archive.read(pickled) if pickled else b""
    except Exception:  # garbled bytes may ask for a password, another compression, anything
        return False
    return all(key in content for key in _HEADER_KEYS)


def strangers(run: Path) -> list[str]:
    """The paths in the run's folder that no run writes, relative to it; a whole folder ends in `/`."""
    return sorted(_strangers(run, ""))


def is_run_file(name: str, inside: str = "") -> bool:
    """Whether a run writes a file of that name in its folder, or in `checkpoints` or `divergences` inside it."""
    return (_RUN_FILE[inside].fullmatch(name) or _HIDDEN.fullmatch(name)) is not None


def _strangers(folder: Path, inside: str) -> Iterator[str]:
    for path in folder.iterdir():
        name = path.name
        if path.is_symlink():  # a run writes none
            yield f"{inside}{name}"
        elif path.is_dir():
            if not inside and name in _RUN_FILE:
                yield from _strangers(path, f"{name}/")
            elif not inside and name == CODE:
                yield from (
                    f"{CODE}/{each.relative_to(path).as_posix()}" for each in path.rglob("*") if not _is_code(each)
                )
            elif not inside and EARLIER.fullmatch(name):
                yield from (f"{name}/{each}" for each in _strangers(path, ""))
            else:
                yield f"{inside}{name}/"
        elif not (path.is_file() and is_run_file(written_as(name), inside.removesuffix("/"))):
            yield f"{inside}{name}"


def _is_code(path: Path) -> bool:
    """Whether a path below `code/` is one that a run writes, or what Python compiles of it."""
    if path.is_symlink():
        return False
    return path.is_dir() or written_as(path.name).endswith(".py") or path.parent.name == "__pycache__"


def find_runs(root: Path) -> Iterator[Path]:
    """The folders of all runs in `root` and in the folders below it, in the order of their names.

    A run has no runs inside. Hidden folders, which are leftovers of one that was deleted, are none.
    """
    for folder in _folders(root):
        if is_run(folder):
            yield folder
        elif not folder.is_symlink():  # it may lead round in a circle
            yield from find_runs(folder)


def _folders(root: Path) -> list[Path]:
    """Those in `root` that are not hidden; none where it may not be read."""
    try:
        return sorted(path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError:
        return []


def folder_bytes(folder: Path) -> int:
    """What the folder takes on the disk: two names of one file, as `best.ckpt` may be, count once."""
    sizes: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:  # a running training has just removed it
            continue
        sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())

"""The files of a folder or of a glob: links are followed, each file is taken once, and what is left out is counted."""

import fnmatch
import glob
import re
import stat
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import DataError
from minigpt.system.files import home_path

_KINDS: dict[int, str] = {
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
}
_NOUNS = re.compile(r"^((?:broken )?link|file|folder|path|FIFO|socket|device|special file)\b")
_SUFFIXES = 5
"""So many are named, of those that a folder's files have and that are not read."""
_SIZELESS = "file of unknown size (as in /proc)"


class Walk(NamedTuple):
    """The files of a folder or a glob."""

    files: list[Path]
    """In the order of their paths; of several paths to a file, one that leads through no link if there is one."""
    left_out: Counter[str]
    """How many paths were passed over for each reason."""


def walk_folder(folder: Path, is_wanted: Callable[[Path], bool], suffix_of: Callable[[Path], str]) -> Walk:
    """The visible files below `folder` that are wanted; the others are counted by their suffix."""
    left_out: dict[Path, str] = {}
    found: list[Path] = []
    for below in _folders_below(folder, left_out):
        for name in _names(below, left_out):
            path = below / name
            if path.is_dir():
                continue  # one of the folders
            if name.startswith("."):
                left_out[path] = "hidden"
            elif is_wanted(path):
                found.append(path)
            else:
                broken = _no_file(path) if path.is_symlink() else None  # its name may have no suffix, or a folder's
                left_out[path] = broken or suffix_of(path) or "file without a suffix"
    return _each_once(found, left_out)


def walk_glob(pattern: str) -> Walk:
    """The files that `pattern` matches. `**` stands for any number of folders, and as `*` for no hidden ones."""
    left_out: dict[Path, str] = {}
    path = home_path(pattern)
    parts = path.parts[1:] if path.anchor else path.parts
    return _each_once(list(_matches(Path(path.anchor), parts, left_out)), left_out)


def listed(left_out: Collection[tuple[str, int]]) -> str:
    """`3 .csv, 1 .png, 2 hidden, 1 broken link`: the most frequent first, rare suffixes summed up."""
    ordered = sorted(left_out, key=lambda item: (-item[1], item[0]))
    suffixes = [item for item in ordered if item[0].startswith(".")]
    rest = sum(count for _, count in suffixes[_SUFFIXES:])
    shown = [item for item in ordered if item not in suffixes[_SUFFIXES:]]
    words = [f"{count:,} {reason if count == 1 else _NOUNS.sub(_plural, reason)}" for reason, count in shown]
    return ", ".join([*words, *([f"{rest:,} of other suffixes"] if rest else [])])


def _plural(noun: re.Match[str]) -> str:
    return f"{noun[0]}s"


def check_file(path: Path) -> None:
    """Raise DataError for what is no ordinary file with a size: a pipe, a device, a file of /proc."""
    reason = _no_file(path)
    if reason is not None:
        raise DataError(f"{path}: a {reason}: write its content into an ordinary file, and give that")


def _folders_below(folder: Path, left_out: dict[Path, str]) -> Iterator[Path]:
    """`folder` and every visible one below it, each once by its real path: those on the way first, then links."""
    home = folder.resolve()
    seen: set[Path] = set()
    waiting, links = deque([folder]), deque[Path]()
    while waiting or links:
        here = waiting.popleft() if waiting else links.popleft()
        real = here.resolve()
        if real in seen or (seen and home.is_relative_to(real)):
            left_out[here] = "link to a folder that is read anyway" if real in seen else "link to a folder above"
            continue
        seen.add(real)
        yield here
        for name in _names(here, left_out):
            below = here / name
            if not below.is_dir():
                continue
            if name.startswith("."):
                left_out[below] = "hidden"
            else:
                (links if below.is_symlink() else waiting).append(below)


def _matches(folder: Path, parts: tuple[str, ...], left_out: dict[Path, str]) -> Iterator[Path]:
    """Every path below `folder` that the parts of a pattern match."""
    head, rest = parts[0], parts[1:]
    if head == "**":
        if rest[:1] == ("**",):
            yield from _matches(folder, rest, left_out)
        elif folder.is_dir():
            for below in _folders_below(folder, left_out):
                found = _matches(below, rest or ("*",), left_out)
                yield from (path for path in found if rest or not path.is_dir())
        return
    names = [head]
    if glob.has_magic(head):
        visible = [name for name in _names(folder, left_out) if head.startswith(".") or not name.startswith(".")]
        names = fnmatch.filter(visible, head)
    for path in (folder / name for name in names):
        if not rest:
            if path.is_symlink() or path.exists():
                yield path
        elif path.is_dir():
            yield from _matches(path, rest, left_out)


def _names(folder: Path, left_out: dict[Path, str]) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        left_out[folder] = "folder that cannot be read"
        return []


def _each_once(found: list[Path], left_out: dict[Path, str]) -> Walk:
    """The ordinary files among the paths, each once."""
    reals: dict[Path, Path] = {}
    linked: dict[Path, bool] = {}
    places: dict[Path, tuple[Path, bool]] = {}  # resolving each of 100,000 paths, not their folders, took most of 20 s
    for path in sorted(set(found), key=lambda path: path.parts):
        reason = _no_file(path)
        if reason is not None:
            left_out[path] = reason
            continue
        folder = path.parent
        if folder not in places:
            real = folder.resolve()
            places[folder] = real, real != folder.absolute()
        real, linked[path] = places[folder]
        reals[path] = real / path.name
        if path.is_symlink():
            reals[path], linked[path] = path.resolve(), True
    chosen: dict[Path, Path] = {}
    for path in sorted(reals, key=linked.__getitem__):
        if chosen.setdefault(reals[path], path) != path:
            left_out[path] = "link to a file that is read anyway"
    files = [path for path, real in reals.items() if chosen[real] == path]
    return Walk(files, Counter(left_out.values()))


def _no_file(path: Path) -> str | None:
    """The kind of `path`, if it is no file that can be read twice."""
    try:
        status = path.stat()
    except (OSError, RuntimeError):  # a link to itself
        return "broken link" if path.is_symlink() else "path that cannot be read"
    if not stat.S_ISREG(status.st_mode):
        return _KINDS.get(stat.S_IFMT(status.st_mode), "special file")
    if status.st_size:
        return None
    try:
        with path.open("rb") as file:
            return _SIZELESS if file.read(1) else None
    except OSError:
        return None  # whoever reads it will say so

"""A corpus of the user's own: a function without arguments that yields texts, one a document, or files to read."""

import hashlib
import json
import linecache
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import GeneratorType
from typing import Any, TypeVar

from minigpt.data.cache import cache_root
from minigpt.data.progress import Progress
from minigpt.data.protocol import utf8
from minigpt.data.sources import FOLDER_SUFFIXES, TABLE_SUFFIXES, inner_suffix
from minigpt.data.walk import check_file
from minigpt.errors import ConfigError, DataError, shown
from minigpt.system.components import error_line, import_component, is_dotted, is_importable
from minigpt.system.files import home_path
from minigpt.system.units import bytes_text

_REPORT_EVERY = 1 << 20
"""Bytes between two reports of progress."""


def is_function(spec: str) -> bool:
    """Whether `spec` names a function, `my_ideas.documents`: a dotted name whose module is there, and no file's."""
    path = home_path(spec)
    is_file = path.exists() or path.is_symlink() or inner_suffix(path) in {*FOLDER_SUFFIXES, *TABLE_SUFFIXES, ""}
    return is_dotted(spec) and not is_file and is_importable(spec)


def run_function(name: str, report: Progress) -> list[Path]:
    """The files that hold what the function of that dotted name yields.

    Files that it yields are those files. Texts are written to a JSONL file of the cache whose name is their hash, so
    that the same texts are the same file. The function is run each time, since what it reads may have changed. Raises
    ConfigError for what cannot be imported, DataError with the user's line for what fails or yields anything else.
    """
    function = import_component("data.corpus", name)
    if not callable(function):
        raise ConfigError(f"data.corpus={name} is {shown(function)}, and must be a function that yields texts")
    documents = _documents(name, function)
    first = next(documents, None)
    if first is None:
        raise DataError(f"corpus {name}: yields no text: {_line_of(function)}")
    if isinstance(first, Path):
        return [first, *_of_kind(name, Path, documents)]
    return [_write_texts(name, first, _of_kind(name, str, documents), report)]


def _documents(name: str, function: Callable[[], Any]) -> Iterator[str | Path]:
    """Yield the checked items of the function; DataError with the user's line that is at fault."""
    try:
        items = function()
        if isinstance(items, str | bytes) or not isinstance(items, Iterable):
            raise DataError(f"corpus {name}: must yield texts, not return {shown(items)}: {_line_of(function)}")
        iterator = iter(items)
        place = iterator if isinstance(iterator, GeneratorType) else function
        for number, item in enumerate(iterator, start=1):
            if isinstance(item, Path):
                if not item.exists():
                    raise DataError(f"corpus {name}: there is no file {item}, item {number}: {_line_of(place)}")
                check_file(item)
            elif isinstance(item, str):
                _check_utf8(f"corpus {name}: item {number}", item, place)
            else:
                what = f"must yield texts (str), and item {number} is {shown(item)}"
                raise DataError(f"corpus {name}: {what}: {_line_of(place)}")
            yield item
    except DataError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise DataError(f"corpus {name}: {error_line(error)}") from error


def _check_utf8(what: str, text: str, place: Any) -> None:
    try:
        utf8(text)
    except DataError as error:
        raise DataError(f"{what}: {error}: {_line_of(place)}") from None


_Kind = TypeVar("_Kind", str, Path)


def _of_kind(name: str, kind: type[_Kind], documents: Iterator[str | Path]) -> Iterator[_Kind]:
    for document in documents:
        if not isinstance(document, kind):
            raise DataError(f"corpus {name}: must yield either texts or files (pathlib.Path), not both")
        yield document


def _write_texts(name: str, first: str, others: Iterator[str], report: Progress) -> Path:
    """Write one line of JSON a text into a file of the cache, and give its path."""
    folder = cache_root() / "corpora"
    folder.mkdir(parents=True, exist_ok=True)
    limit = shutil.disk_usage(folder).free // 2
    digest, size, reported = hashlib.sha256(), 0, 0
    temporary = folder / f".{name}.tmp-{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            for number, text in enumerate(chain([first], others), start=1):
                line = json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"
                digest.update(line)
                size += file.write(line)
                if size > limit:
                    raise DataError(
                        f"corpus {name}: yields no end of texts: {number:,} so far fill {bytes_text(size)}, half of "
                        f"what was free in {folder}; itertools.islice ends a generator"
                    )
                if size > reported + _REPORT_EVERY:
                    report(f"running {name}", size, 0)
                    reported = size
        path = folder / f"{name}-{digest.hexdigest()[:16]}.jsonl"
        if not path.exists():
            temporary.replace(path)
        return path
    finally:
        temporary.unlink(missing_ok=True)


def _line_of(code: Any) -> str:
    """`FILE, line N: the line` where a generator stands, or where a function begins."""
    while isinstance(code, GeneratorType) and isinstance(code.gi_yieldfrom, GeneratorType):
        code = code.gi_yieldfrom
    if isinstance(code, GeneratorType) and code.gi_frame:
        file, number = code.gi_code.co_filename, code.gi_frame.f_lineno
    elif found := getattr(code, "__code__", None):
        file, number = found.co_filename, found.co_firstlineno
    else:
        return shown(code)
    return f"{file}, line {number}: {linecache.getline(file, number).strip()}"

"""Files of every accepted kind, as spans: bounded stretches of documents that any process can read on its own."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from minigpt.data.compression import COMPRESSED_SUFFIXES, is_compressed, open_stream
from minigpt.data.parquet import read_column
from minigpt.data.pieces import PIECE_BYTES, cut_stream
from minigpt.errors import DataError

SourceKind = Literal["text", "lines", "rows"]
LINE_SUFFIXES = (".jsonl", ".ndjson")
ROW_SUFFIXES = (".parquet",)
PROSE_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".org", ".adoc")
CODE_SUFFIXES = (
    *(".c", ".cc", ".cpp", ".cs", ".go", ".h", ".hpp", ".hs", ".java", ".jl", ".js", ".kt", ".lua", ".ml", ".php"),
    *(".pl", ".py", ".pyi", ".r", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".ts"),
)
TABLE_SUFFIXES = (".csv", ".tsv")
FOLDER_SUFFIXES = (*PROSE_SUFFIXES, *CODE_SUFFIXES, *LINE_SUFFIXES, *ROW_SUFFIXES)
"""Suffixes that are read from a folder, each also with .gz or .zst behind it; JSON, HTML and tables are not prose."""
KEY_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of one file: a range of bytes of a plain one, the content itself of a compressed or Parquet file."""

    path: Path
    kind: SourceKind
    start: int
    """Offset of its first byte in the (decompressed) file."""
    size: int
    """Bytes of (decompressed) file; for rows, about the bytes of their text."""
    held: bytes | tuple[str, ...] | None = None
    field: str = "text"
    """Lines only: where the text is."""
    first_line: int = 1
    """Lines only: the number of the first."""
    begins: bool = True
    """Text only: whether the document begins here."""
    ends: bool = True
    key: int | None = None
    """Text only: `document_key` of the document that this is a fragment of."""


class Fragment(NamedTuple):
    """A document, or a stretch of one that is too long to be handled whole."""

    text: str
    begins: bool
    ends: bool
    key: int
    """`document_key` of the whole document."""
    n_bytes: int
    """Bytes of `text` as UTF-8."""


def document_key(data: bytes) -> int:
    """A number below 2**64 from the first 64 KiB of a document: the same for equal texts, evenly spread over others."""
    return int.from_bytes(hashlib.blake2b(data[:KEY_BYTES], digest_size=8).digest(), "big")


def inner_suffix(path: Path) -> str:
    """The suffix, or that below a compression's: `.jsonl` of `a.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def kind_of(path: Path) -> SourceKind:
    """How a file is read, by its name: lines of JSON, rows of Parquet, anything else as one text."""
    suffix = inner_suffix(path)
    return "lines" if suffix in LINE_SUFFIXES else "rows" if suffix in ROW_SUFFIXES else "text"


def spans_of_file(path: Path, field: str = "text") -> Iterator[Span]:
    """The spans of one file, in order, each of about PIECE_BYTES at most: that bounds the memory, too."""
    if kind_of(path) == "rows":
        yield from _spans_of_rows(path, field)
    elif kind_of(path) == "lines":
        yield from _spans_of_lines(path, field)
    else:
        yield from _spans_of_text(path)


def read_span(span: Span) -> Iterator[Fragment]:
    """The documents in a span, or its fragment of one; none that is without text. DataError names file and place.

    Text is taken as it is: strict UTF-8, with its own line ends. A byte order mark at a file's beginning is dropped.
    """
    if isinstance(span.held, tuple):
        texts = iter(span.held)
    else:
        data = span.held if span.held is not None else _read_range(span)
        if span.kind == "text":
            yield from _read_text(span, data)
            return
        texts = _read_lines(span, data)
    for text in filter(None, texts):
        spelt = text.encode("utf-8")
        yield Fragment(text, True, True, document_key(spelt), len(spelt))


def _spans_of_text(path: Path) -> Iterator[Span]:
    key = None
    with open_stream(path) as stream:
        for start, data, is_last in cut_stream(stream, whole_lines=False):
            if start == 0:
                key = document_key(data.removeprefix(_BOM))
            yield Span(
                path=path,
                kind="text",
                start=start,
                size=len(data),
                held=data if is_compressed(path) else None,
                begins=start == 0,
                ends=is_last,
                key=key,
            )


def _spans_of_lines(path: Path, field: str) -> Iterator[Span]:
    line = 1
    with open_stream(path) as stream:
        for start, data, _ in cut_stream(stream, whole_lines=True):
            held = data if is_compressed(path) else None
            yield Span(path=path, kind="lines", start=start, size=len(data), held=held, field=field, first_line=line)
            line += data.count(b"\n")


def _spans_of_rows(path: Path, field: str) -> Iterator[Span]:
    documents: list[str] = []
    start = size = 0
    for text in read_column(path, field):
        documents.append(text)
        size += len(text)
        if size >= PIECE_BYTES:
            yield Span(path=path, kind="rows", start=start, size=size, held=tuple(documents))
            start, documents, size = start + size, [], 0
    if documents:
        yield Span(path=path, kind="rows", start=start, size=size, held=tuple(documents))


def _read_range(span: Span) -> bytes:
    with span.path.open("rb") as file:
        file.seek(span.start)
        data = file.read(span.size)
    if len(data) != span.size:
        raise DataError(
            f"{span.path}: changed while it was read: it has become shorter than {span.start + span.size} bytes"
        )
    return data


def _read_text(span: Span, data: bytes) -> Iterator[Fragment]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = span.start + error.start
        hint = " (is it UTF-16?)" if span.start == 0 and data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise DataError(
            f"{span.path}: not UTF-8 text: byte 0x{data[error.start]:02x} at offset {place}{hint}"
        ) from None
    nul = data.find(b"\0")
    if nul >= 0:
        raise DataError(f"{span.path}: binary, not text: a NUL byte at offset {span.start + nul}")
    n_bytes = len(data)
    if span.start == 0 and data.startswith(_BOM):
        text, n_bytes = text[1:], n_bytes - len(_BOM)
    if text:
        assert span.key is not None
        yield Fragment(text, span.begins, span.ends, span.key, n_bytes)


def _read_lines(span: Span, data: bytes) -> Iterator[str]:
    for number, line in enumerate(data.split(b"\n"), start=span.first_line):
        stripped = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if stripped:
            yield _text_of_line(stripped, span.field, f"{span.path}:{number}")


def _text_of_line(line: bytes, field: str, place: str) -> str:
    try:
        value: Any = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not a line of JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: JSON that cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{place}: must be a JSON object with a field {field!r}, not {_json_kind(value)}")
    if field not in value:
        fields = ", ".join(map(repr, value)) or "none"
        raise DataError(f"{place}: no field {field!r}; the fields there: {fields} (text_field chooses one)")
    text = value[field]
    if not isinstance(text, str):
        raise DataError(f"{place}: field {field!r} must be text, not {_json_kind(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise DataError(
            f"{place}: the text holds U+{code:04X}, half a surrogate pair, which UTF-8 cannot hold"
        ) from None
    return text


def _json_kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")

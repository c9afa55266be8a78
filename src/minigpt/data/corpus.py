"""A corpus: the files that documents are read from, found by a name, a path, a glob or a function."""

import glob
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from minigpt.data.cache import file_state, recall, remember
from minigpt.data.compression import is_compressed
from minigpt.data.corpus_function import is_function, run_function
from minigpt.data.named_corpora import NAMED_CORPORA
from minigpt.data.pieces import PIECE_BYTES
from minigpt.data.progress import Progress, ignore_progress
from minigpt.data.sources import FOLDER_SUFFIXES, TABLE_SUFFIXES, Span, inner_suffix, kind_of, read_span, spans_of_file
from minigpt.data.walk import Walk, check_file, listed, walk_folder, walk_glob
from minigpt.errors import DataError, did_you_mean
from minigpt.system.components import MissingFunctionError, is_dotted
from minigpt.system.files import home_path

_MEMO_BYTES = 64 << 20
"""A larger file is hashed once for each state (path, size, time of change) of it, a smaller one each time."""


@dataclass(frozen=True)
class Corpus:
    """Files, in a fixed order, and how to read documents from them."""

    name: str
    files: tuple[Path, ...]
    text_field: str = "text"
    left_out: tuple[tuple[str, int], ...] = ()
    """Why paths of a folder or a glob were passed over, and how many for each reason."""

    @property
    def description(self) -> str | None:
        """Which files are read and which are not, in words; None where one file is read as what it is."""
        tables = [path for path in self.files if inner_suffix(path) in TABLE_SUFFIXES]
        if len(self.files) == 1 and not tables and not self.left_out:
            return None
        words = [f"{len(self.files):,} read"]
        if tables:
            words.append(f"{len(tables):,} .csv or .tsv as plain text, with header, separators and quotes")
        if self.left_out:
            words.append(f"passed over: {listed(self.left_out)}")
        return "; ".join(words)

    @property
    def n_bytes(self) -> int:
        """Bytes on disk, compressed where the files are."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def n_documents(self) -> int | None:
        """One for each file, if all are texts; None where they must be read to be counted."""
        return len(self.files) if all(kind_of(path) == "text" for path in self.files) else None

    @property
    def unread_bytes(self) -> int:
        """Bytes that `fingerprint` would read: all but those of large files whose sum is remembered."""
        return sum(path.stat().st_size for path in self.files if not _known_sha256(path))

    def fingerprint(self) -> str:
        """sha256 (hex) of the content of all files in their order and of how they are read; names do not matter."""
        total = hashlib.sha256()
        for path in self.files:
            how = kind_of(path) if kind_of(path) == "text" else f"{kind_of(path)} {self.text_field}"
            total.update(f"{how} {is_compressed(path)} {_sha256(path)}\n".encode())
        return total.hexdigest()

    def state(self) -> list[tuple[int, int]]:
        """Size and time of change of every file: equal states before and after mean that nothing changed meanwhile."""
        return [file_state(path) for path in self.files]

    def documents(self) -> Iterator[str]:
        """The documents one after another, each whole."""
        parts: list[str] = []
        for piece in self.pieces():
            for span in piece:
                for fragment in read_span(span):
                    parts.append(fragment.text)
                    if fragment.ends:
                        yield "".join(parts)
                        parts = []

    def pieces(self) -> Iterator[tuple[Span, ...]]:
        """The corpus cut into units of work of about PIECE_BYTES: the same cuts at every call."""
        piece: list[Span] = []
        size = 0
        for path in self.files:
            for span in spans_of_file(path, self.text_field):
                if piece and size + span.size > PIECE_BYTES:
                    yield tuple(piece)
                    piece, size = [], 0
                piece.append(span)
                size += span.size
        if piece:
            yield tuple(piece)


def open_corpus(spec: str, text_field: str = "text", report: Progress = ignore_progress) -> Corpus:
    """The corpus that `spec` names: `python`, `shakespeare`, a file, a folder, a glob, or a function of the user's own,
    which is run. DataError if there is none.

    A file named like a named corpus is `./python`. In a folder, hidden files are left out, and those whose suffix is
    none of FOLDER_SUFFIXES; a single file or a glob's matches are read whatever their names. Links are followed, and
    each file is read once, by its real path. A function reports its progress to `report`.
    """
    if spec in NAMED_CORPORA:
        return Corpus(name=spec, files=tuple(NAMED_CORPORA[spec]()))
    if is_function(spec):
        return Corpus(name=spec, files=tuple(run_function(spec, report)))
    if not spec.strip():
        raise DataError("corpus='' names nothing: a file, a folder, a glob or one of " + ", ".join(NAMED_CORPORA))
    path = home_path(spec)
    try:
        if path.is_dir():
            files, left_out = _walk_folder(path)
        elif path.exists():
            check_file(path)
            files, left_out = [path], Counter()
        elif glob.has_magic(spec):
            files, left_out = _walk_glob(spec)
        elif path.is_symlink():
            raise DataError(f"corpus {spec}: a broken link: it leads to {path.readlink()}")
        else:
            raise (MissingFunctionError if is_dotted(spec) else DataError)(_no_such_corpus(spec, path))
        empty = not any(file.stat().st_size for file in files)
    except (OSError, ValueError) as error:
        raise DataError(f"corpus {spec}: cannot be read: {error}") from None
    if empty:
        raise DataError(f"{spec}: empty: {'it holds' if len(files) == 1 else 'its files hold'} no text")
    name = path.resolve().name.split(".")[0] if not glob.has_magic(path.name) else "glob"
    return Corpus(name=name or "corpus", files=tuple(files), text_field=text_field, left_out=tuple(left_out.items()))


def _walk_folder(folder: Path) -> Walk:
    walk = walk_folder(folder, lambda path: inner_suffix(path) in FOLDER_SUFFIXES, inner_suffix)
    if not walk.files:
        looked_for = f"looked for {' '.join(FOLDER_SUFFIXES)}, each also with .gz or .zst"
        passed = f"; passed over: {listed(walk.left_out.items())}" if walk.left_out else ""
        raise DataError(f"{folder}: no text files in this folder ({looked_for}{passed})")
    return walk


def _walk_glob(pattern: str) -> Walk:
    walk = walk_glob(pattern)
    if not walk.files:
        passed = f" but {listed(walk.left_out.items())}" if walk.left_out else ""
        raise DataError(f"corpus {pattern}: the pattern matches no file{passed}")
    return walk


def _no_such_corpus(spec: str, path: Path) -> str:
    near = did_you_mean(spec, NAMED_CORPORA)
    if not near and is_dotted(spec):
        function = spec.rpartition(".")[2]
        near = did_you_mean(spec, [f"{file.stem}.{function}" for file in Path.cwd().glob("*.py")])
    if not near and path.parent.is_dir():
        near = did_you_mean(path.name, sorted(entry.name for entry in path.parent.iterdir()))
    names = " or ".join(NAMED_CORPORA)
    module = f", nor a module {spec.partition('.')[0]} to import" if is_dotted(spec) else ""
    return f"corpus {spec}: no such file or folder, nor a named corpus ({names}){module}{near}"


def _sha256(path: Path) -> str:
    known = _known_sha256(path)
    if known:
        return known
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    if _is_large(path):
        remember("sha256", path, digest.hexdigest())
    return digest.hexdigest()


def _known_sha256(path: Path) -> str | None:
    return recall("sha256", path) if _is_large(path) else None


def _is_large(path: Path) -> bool:
    return path.stat().st_size > _MEMO_BYTES

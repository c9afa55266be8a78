"""Shards: memory-mapped files of tokens, with a header that says what they are and a checksum that says they are whole.

offset  bytes  content (little-endian)
     0      8  magic, b"minigpt\\n"
     8      2  version of this layout
    10      2  bytes per token: 1, 2 or 4 (uint8, uint16, uint32)
    12      4  zero
    16      8  number of tokens
    24      8  number of document starts
    32     32  sha256 of the tokenizer's JSON
    64     32  sha256 of everything behind the header, then of its bytes 0 to 64
    96    160  zero
   256         tokens; zeros up to a multiple of 8; document starts, uint64: positions of tokens in this shard
"""

import hashlib
import mmap
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from minigpt.data.cache import recall, remember
from minigpt.errors import DataError
from minigpt.system.files import atomic_path

MAGIC = b"minigpt\n"
VERSION = 1
HEADER_BYTES = 256
SHARD_TOKENS = 1 << 26
_FIELDS = struct.Struct("<8sHHIQQ32s")
_DTYPES: dict[int, np.dtype] = {1: np.dtype("<u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True)
class ShardHeader:
    """The header of a shard."""

    dtype: np.dtype
    n_tokens: int
    n_documents: int
    tokenizer: str
    """The tokenizer's fingerprint, hex."""
    checksum: str
    """sha256 in hex."""

    @property
    def starts_offset(self) -> int:
        tokens = self.n_tokens * self.dtype.itemsize
        return HEADER_BYTES + tokens + -tokens % 8

    @property
    def file_bytes(self) -> int:
        return self.starts_offset + 8 * self.n_documents


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrowest of uint8, uint16 and uint32 that holds every id of a vocabulary."""
    return _DTYPES[1 if vocab_size <= 1 << 8 else 2 if vocab_size <= 1 << 16 else 4]


def read_header(path: Path) -> ShardHeader:
    """The header of a shard, checked against the file's size. DataError names the value found and the one expected."""
    try:
        with path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path}: this shard is missing") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if raw[: len(MAGIC)] != MAGIC:
        raise DataError(f"{path}: not a shard: it begins with {raw[: len(MAGIC)]!r}, expected {MAGIC!r}")
    if len(raw) < HEADER_BYTES:
        raise DataError(f"{path}: cut short: {len(raw)} bytes, expected a header of {HEADER_BYTES}")
    _, version, width, _, n_tokens, n_documents, tokenizer = _FIELDS.unpack_from(raw)
    if version != VERSION:
        raise DataError(f"{path}: shard version {version}, expected {VERSION}; prepare the corpus again")
    if width not in _DTYPES:
        raise DataError(f"{path}: damaged header: {width} bytes per token, expected 1, 2 or 4")
    header = ShardHeader(
        _DTYPES[width], n_tokens, n_documents, tokenizer.hex(), raw[_FIELDS.size : _FIELDS.size + 32].hex()
    )
    if size != header.file_bytes:
        counts = f"{n_tokens} tokens and {n_documents} documents"
        raise DataError(f"{path}: {size} bytes, expected {header.file_bytes} for the {counts} of its header")
    return header


def open_shard(path: Path, verify: bool = False) -> np.memmap:
    """(n_tokens,) the tokens of a shard, mapped and read-only. `verify`: check its checksum, too (see verify_shard)."""
    header = read_header(path)
    if verify:
        verify_shard(path, header)
    if not header.n_tokens:
        raise DataError(f"{path}: this shard holds no tokens")
    return np.memmap(path, dtype=header.dtype, mode="r", offset=HEADER_BYTES, shape=(header.n_tokens,))


def open_document_starts(path: Path) -> np.ndarray:
    """(n_documents,) uint64: the positions in the shard at which a document begins, ascending."""
    header = read_header(path)
    if not header.n_documents:
        return np.zeros(0, dtype="<u8")
    return np.memmap(path, dtype="<u8", mode="r", offset=header.starts_offset, shape=(header.n_documents,))


class MappedShard(NamedTuple):
    """A mapped shard by its file, to send to another process: pickled as an array it would take its tokens along."""

    path: str
    dtype: str
    offset: int
    size: int


def pack(shards: Sequence[np.ndarray]) -> list[np.ndarray | MappedShard]:
    """The arrays of `open_shard` and `open_document_starts` by their files, any others as they are."""
    return [
        MappedShard(str(shard.filename), shard.dtype.str, shard.offset, len(shard))
        if isinstance(shard, np.memmap) and isinstance(shard.base, mmap.mmap)  # the whole, not a part of it
        else shard
        for shard in shards
    ]


def unpack(shards: Sequence[np.ndarray | MappedShard]) -> list[np.ndarray]:
    """What `pack` was given."""
    return [
        np.memmap(shard.path, dtype=shard.dtype, mode="r", offset=shard.offset, shape=(shard.size,))
        if isinstance(shard, MappedShard)
        else shard
        for shard in shards
    ]


def verify_shard(path: Path, header: ShardHeader) -> None:
    """DataError unless the checksum fits. That it does is remembered, for the file's present state and this machine."""
    if recall("shard", path) == header.checksum:
        return
    found = checksum_of(path)
    if found != header.checksum:
        raise DataError(f"{path}: damaged: its content has checksum {found}, expected {header.checksum}")
    remember("shard", path, header.checksum)


def checksum_of(path: Path) -> str:
    """The checksum (hex) that the content of a shard has now."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        fields = file.read(HEADER_BYTES)[: _FIELDS.size]
        while block := file.read(1 << 20):
            digest.update(block)
        digest.update(fields)
    return digest.hexdigest()


def largest_token(path: Path) -> int:
    """The largest id in a shard, 0 if it is empty. Read, not mapped: mapped pages would count as memory."""
    header = read_header(path)
    largest = 0
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        for first in range(0, header.n_tokens, 1 << 20):
            tokens = np.fromfile(file, header.dtype, min(1 << 20, header.n_tokens - first))
            largest = max(largest, int(tokens.max()))
    return largest


class ShardWriter:
    """Writes tokens to `folder/STEM-00000.bin`, `STEM-00001.bin`, ... of at most `shard_tokens` each.

    Used as a context manager; leaving it closes the last one. Without tokens there is no file. A file appears under its
    name only when it is whole and synced; not `durable`: it is simply written, for who checks it before using it.
    Memory: where the documents of one shard begin.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        vocab_size: int,
        tokenizer: str,
        *,
        shard_tokens: int = SHARD_TOKENS,
        durable: bool = True,
    ) -> None:
        self.paths: list[Path] = []
        self._folder = folder
        self._stem = stem
        self._dtype = token_dtype(vocab_size)
        self._tokenizer = tokenizer
        self._shard_tokens = shard_tokens
        self._durable = durable
        self._current: _OpenShard | None = None

    def append(self, tokens: np.ndarray, starts: np.ndarray) -> None:
        """Add `tokens` (n,); `starts` are the positions in them, ascending, at which documents begin."""
        while len(tokens):
            if self._current is None:
                self.paths.append(self._folder / f"{self._stem}-{len(self.paths):05d}.bin")
                self._current = _OpenShard(self.paths[-1], self._dtype, self._tokenizer, self._durable)
            room = self._shard_tokens - self._current.n_tokens
            inside = int(np.searchsorted(starts, room))
            self._current.write(tokens[:room], starts[:inside])
            tokens, starts = tokens[room:], starts[inside:] - room
            if self._current.n_tokens == self._shard_tokens:
                self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        elif self._current is not None:
            self._current.discard()

    def _finish(self) -> None:
        if self._current is not None:
            self._current.finish()
            self._current = None


class _OpenShard:
    """One shard while it is written: the tokens go straight to the file, the header last."""

    def __init__(self, path: Path, dtype: np.dtype, tokenizer: str, durable: bool) -> None:
        self.n_tokens = 0
        self._dtype = dtype
        self._tokenizer = bytes.fromhex(tokenizer)
        self._starts: list[np.ndarray] = []
        self._digest = hashlib.sha256()

        with ExitStack() as stack:
            target = stack.enter_context(atomic_path(path)) if durable else path
            self._file = stack.enter_context(target.open("wb"))
            self._file.write(bytes(HEADER_BYTES))
            self._stack = stack.pop_all()

    def write(self, tokens: np.ndarray, starts: np.ndarray) -> None:
        self._write(np.ascontiguousarray(tokens, dtype=self._dtype).data)
        self._starts.append(starts.astype("<u8") + np.uint64(self.n_tokens))
        self.n_tokens += len(tokens)

    def finish(self) -> None:
        with self._stack:
            starts = np.concatenate(self._starts)
            self._write(bytes(-self.n_tokens * self._dtype.itemsize % 8))
            self._write(starts.data)
            fields = _FIELDS.pack(MAGIC, VERSION, self._dtype.itemsize, 0, self.n_tokens, len(starts), self._tokenizer)
            self._digest.update(fields)
            self._file.seek(0)
            self._file.write(fields + self._digest.digest())

    def discard(self) -> None:
        """Close the file; nothing appears under the name of a durable shard."""
        with suppress(_DiscardedError), self._stack:
            raise _DiscardedError

    def _write(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._file.write(data)


class _DiscardedError(Exception):
    """Tells the open file's context managers that it is not to be kept."""

"""Read .gz and .zst files block by block; a damaged or truncated one is an error of one line.

Not by fsspec's openers: they take a truncated Zstandard file for a whole one, without an error.
"""

import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from minigpt.errors import DataError
from minigpt.system.extras import import_extra

COMPRESSED_SUFFIXES = (".gz", ".zst")
_BLOCK_BYTES = 1 << 16


class Stream(AbstractContextManager["Stream"], Protocol):
    """The interface of an open file that reading a corpus needs."""

    def read(self, size: int, /) -> bytes:
        """About `size` bytes, nothing only at the end."""


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() in COMPRESSED_SUFFIXES


def open_stream(path: Path) -> Stream:
    """Open a file to read its plain content. DataError if it needs a library that is not installed."""
    if path.suffix.lower() == ".gz":
        return _Decompressed(path, "gzip", lambda: zlib.decompressobj(wbits=31), zlib.error)
    if path.suffix.lower() == ".zst":
        zstandard = import_extra("zstandard", f"{path}: reading Zstandard", "minigpt[data]", DataError)
        # Of `zstd --long=31`: a frame may need a window of 2 GiB, which only such a frame takes.
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        return _Decompressed(path, "Zstandard", decompressor.decompressobj, zstandard.ZstdError)
    return path.open("rb")


class _Decompressed:
    """A compressed file, frame after frame (gzip calls them members). The last one must be complete."""

    def __init__(self, path: Path, kind: str, new_frame: Callable[[], Any], error: type[Exception]) -> None:
        self._path = path
        self._kind = kind
        self._new_frame = new_frame
        self._error = error
        self._file = path.open("rb")
        self._frame: Any = None
        self._waiting = b""
        self._n_frames = 0

    def read(self, size: int, /) -> bytes:
        """The next block as it comes out: its size depends on how well it was compressed, not on `size`."""
        while True:
            data = self._waiting or self._file.read(min(size, _BLOCK_BYTES))
            self._waiting = b""
            if not data:
                if self._frame is not None:
                    raise DataError(f"{self._path}: cut short: its {self._kind} data end too early")
                return b""
            if self._frame is None and self._n_frames and self._kind == "gzip":
                data = data.lstrip(b"\0")  # some writers pad a file with zeros, which are not the beginning of a member
                if not data:
                    continue
            begins = self._frame is None
            try:
                self._frame = self._frame or self._new_frame()
                plain: bytes = self._frame.decompress(data)
            except self._error as error:
                raise DataError(f"{self._path}: {self._wrong(begins)}: {error}") from None
            if self._frame.eof:
                self._waiting, self._frame = self._frame.unused_data, None
                self._n_frames += 1
            if plain:
                return plain

    def _wrong(self, begins: bool) -> str:
        """The meaning of the library's error at this place."""
        if self._n_frames and begins:
            return f"its {self._kind} data are followed by something else, or damaged"
        return f"not {self._kind} data, or damaged" if begins else f"its {self._kind} data are damaged"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

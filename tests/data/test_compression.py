import gzip
import sys
from pathlib import Path

import pytest

from minigpt.data.compression import open_stream
from minigpt.errors import DataError

DATA = b"some text\n" * 50_000


def compress(path: Path, data: bytes) -> Path:
    """Write `data` as the suffix of `path` says."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data))
    else:
        path.write_bytes(pytest.importorskip("zstandard").compress(data))
    return path


def read(path: Path) -> bytes:
    with open_stream(path) as stream:
        return b"".join(iter(lambda: stream.read(1000), b""))


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".GZ"])
def test_a_file_in_several_frames_is_read_whole(tmp_path: Path, suffix: str) -> None:
    path = compress(tmp_path / f"a{suffix.lower()}", DATA)
    path.write_bytes(path.read_bytes() + compress(tmp_path / f"b{suffix.lower()}", b"more").read_bytes())
    path = path.rename(tmp_path / f"c{suffix}")
    assert read(path) == DATA + b"more"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_an_empty_one_is_empty(tmp_path: Path, suffix: str) -> None:
    assert read(compress(tmp_path / f"a{suffix}", b"")) == b""
    (tmp_path / f"b{suffix}").write_bytes(b"")
    assert read(tmp_path / f"b{suffix}") == b""


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_one_cut_short_is_noticed(tmp_path: Path, suffix: str) -> None:
    path = compress(tmp_path / f"a{suffix}", DATA)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 3):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=f"a{suffix}: cut short: its (gzip|Zstandard) data end too early"):
            read(path)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_one_that_is_something_else_or_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"not compressed")
    with pytest.raises(DataError, match=f"a{suffix}: not (gzip|Zstandard) data, or damaged"):
        read(path)
    compress(path, DATA)
    path.write_bytes(path.read_bytes() + b"trailing")
    with pytest.raises(DataError, match=r"its (gzip|Zstandard) data are followed by something else, or damaged"):
        read(path)


def test_gzip_notices_a_flipped_bit(tmp_path: Path) -> None:
    path = compress(tmp_path / "a.gz", DATA)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in the CRC-32
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"its gzip data are damaged: .*incorrect data check"):
        read(path)


@pytest.mark.parametrize("padding", [1, 512, 999, 1000, 1001, 200_000])
def test_gzip_may_be_padded_with_zeros_over_any_border_of_blocks(tmp_path: Path, padding: int) -> None:
    path = compress(tmp_path / "a.gz", DATA)
    member = path.read_bytes()
    path.write_bytes(member + bytes(padding))
    assert read(path) == DATA
    path.write_bytes(member + bytes(padding) + member)
    assert read(path) == DATA * 2
    path.write_bytes(member + bytes(padding) + member[:-9])
    with pytest.raises(DataError, match="cut short"):
        read(path)
    path.write_bytes(bytes(padding) + member)
    with pytest.raises(DataError, match="not gzip data, or damaged"):
        read(path)


@pytest.mark.parametrize("log", [27, 28, 31])
def test_zstandard_of_any_window_is_read(tmp_path: Path, log: int) -> None:
    """As `zstd --long=31` writes: the frame of a stream of unknown length names its whole window."""
    zstandard = pytest.importorskip("zstandard")
    settings = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True, chain_log=10, hash_log=10)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    (tmp_path / "a.zst").write_bytes(packer.compress(DATA) + packer.flush())
    assert read(tmp_path / "a.zst") == DATA


def test_without_zstandard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "a.zst").write_bytes(b"")
    with pytest.raises(DataError, match=r'a.zst: reading Zstandard needs zstandard: pip install "minigpt\[data\]"'):
        read(tmp_path / "a.zst")

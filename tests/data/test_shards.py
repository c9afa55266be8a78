import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.data import shards
from minigpt.data.shards import (
    HEADER_BYTES,
    ShardWriter,
    checksum_of,
    open_document_starts,
    open_shard,
    read_header,
    token_dtype,
)
from minigpt.errors import DataError

TOKENIZER = "ab" * 32


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, tokens: list[int], starts: list[int], vocab_size: int = 300) -> list[Path]:
    with ShardWriter(folder, "train", vocab_size, TOKENIZER) as writer:
        writer.append(np.array(tokens), np.array(starts))
    return writer.paths


def test_the_narrowest_type_is_chosen() -> None:
    sizes = [2, 256, 257, 65536, 65537]
    assert [token_dtype(size).itemsize for size in sizes] == [1, 1, 2, 2, 4]


@pytest.mark.parametrize("vocab_size", [256, 300, 70_000])
def test_what_is_written_is_read(tmp_path: Path, vocab_size: int) -> None:
    tokens = [0, 1, 255, vocab_size - 1, 5]
    [path] = write(tmp_path, tokens, [0, 3], vocab_size)
    header = read_header(path)
    assert (header.n_tokens, header.n_documents, header.tokenizer) == (5, 2, TOKENIZER)
    mapped = open_shard(path, verify=True)
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == token_dtype(vocab_size)
    assert mapped.tolist() == tokens
    assert open_document_starts(path).tolist() == [0, 3]
    assert path.name == "train-00000.bin"
    assert names(tmp_path) == [path.name]


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    [path] = write(tmp_path, [1, 2, 3], [0])
    data = path.read_bytes()
    assert struct.unpack_from("<8sHHIQQ", data) == (b"minigpt\n", 1, 2, 0, 3, 1)
    assert data[32:64] == bytes.fromhex(TOKENIZER)
    assert data[96:256] == bytes(160)
    assert np.frombuffer(data[256:264], "<u2").tolist() == [1, 2, 3, 0]
    assert np.frombuffer(data[264:], "<u8").tolist() == [0]


def test_a_mapped_shard_cannot_be_written(tmp_path: Path) -> None:
    [path] = write(tmp_path, [1, 2, 3], [0])
    with pytest.raises(ValueError, match="read-only"):
        open_shard(path)[0] = 7


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 25))
def test_rolling_over_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], shard_tokens: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, "train", 300, TOKENIZER, shard_tokens=shard_tokens) as writer:
        for number, length in enumerate(lengths):
            writer.append(np.full(length, number), np.array([0]))
    parts = [open_shard(path, verify=True) for path in writer.paths]
    assert np.concatenate(parts).tolist() == [n for n, length in enumerate(lengths) for _ in range(length)]
    assert all(len(part) == shard_tokens for part in parts[:-1])
    offsets = np.cumsum([0, *map(len, parts[:-1])])
    starts = [int(s + o) for path, o in zip(writer.paths, offsets, strict=True) for s in open_document_starts(path)]
    assert starts == [0, *np.cumsum(lengths[:-1]).tolist()]


def test_without_tokens_there_is_no_file(tmp_path: Path) -> None:
    assert write(tmp_path, [], []) == []
    assert names(tmp_path) == []


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "train", 300, TOKENIZER, shard_tokens=3) as writer:  # noqa: PT012
        writer.append(np.arange(4), np.array([0]))
        assert len(names(tmp_path)) == 2
        raise KeyboardInterrupt
    assert names(tmp_path) == ["train-00000.bin"]  # the first was whole


def test_a_shard_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", 300, TOKENIZER) as writer:
        writer.append(np.arange(4), np.array([0]))
        assert not writer.paths[0].exists()
    assert writer.paths[0].exists()


def _patch(path: Path, offset: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"MINIGPT\n", r"not a shard: it begins with b'MINIGPT\\n', expected b'minigpt\\n'"),
        (8, b"\x02", "shard version 2, expected 1"),
        (10, b"\x03", "damaged header: 3 bytes per token, expected 1, 2 or 4"),
        (16, b"\x06", "272 bytes, expected 280 for the 6 tokens and 1 documents of its header"),
        (24, b"\x02", "272 bytes, expected 280 for the 4 tokens and 2 documents of its header"),
    ],
)
def test_a_wrong_header_names_what_it_says_and_what_it_should(
    tmp_path: Path, offset: int, value: bytes, message: str
) -> None:
    [path] = write(tmp_path, [0, 1, 2, 3], [0])
    _patch(path, offset, value)
    with pytest.raises(DataError, match=message) as caught:
        open_shard(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("length", [0, 5, 100, 255, 256, 270])
def test_a_shard_cut_short(tmp_path: Path, length: int) -> None:
    [path] = write(tmp_path, list(range(10)), [0])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"expected"):
        open_shard(path)


def test_a_shard_with_something_behind_it(tmp_path: Path) -> None:
    [path] = write(tmp_path, [1], [0])
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="273 bytes, expected 272"):
        open_shard(path)


def test_a_missing_shard(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.bin: this shard is missing"):
        open_shard(tmp_path / "a.bin")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        open_shard(tmp_path)


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    [path] = write(tmp_path, list(range(40)), [0, 7])
    whole = path.read_bytes()
    checked = [*range(32), *range(64, 96), *range(HEADER_BYTES, len(whole))]
    for place in checked:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        os.utime(path, ns=(place, place))
        with pytest.raises(DataError, match=r"train-00000.bin: .*expected"):
            open_shard(path, verify=True)
    path.write_bytes(whole)
    open_shard(path, verify=True)


def test_a_checksum_is_compared_once_for_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path] = write(tmp_path, [1, 2, 3], [0])
    read: list[Path] = []

    def record(path: Path) -> str:
        read.append(path)
        return checksum_of(path)

    monkeypatch.setattr(shards, "checksum_of", record)
    for _ in range(3):
        open_shard(path, verify=True)
    assert read == [path]
    os.utime(path, ns=(1, 1))
    open_shard(path, verify=True)
    assert len(read) == 2
    _patch(path, HEADER_BYTES, b"\x07")
    for _ in range(2):  # that it is damaged is not remembered as good
        with pytest.raises(DataError, match="damaged: its content has checksum"):
            open_shard(path, verify=True)

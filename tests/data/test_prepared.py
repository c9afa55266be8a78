import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.data.batches import TrainBatches, TrainOrder, Windows
from minigpt.data.encoding import EncodedCorpus
from minigpt.data.prepared import Prepared, is_prepared, open_prepared, write_index
from minigpt.data.shards import ShardWriter, open_shard
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.errors import DataError


def encoded(shards: Any, train: int, val: int) -> EncodedCorpus:
    return EncodedCorpus(shards, {}, {"train": train, "val": val}, {"train": "t", "val": "v"})


def make(folder: Path, tokenizer: Tokenizer | None = None, train: bytes = b"some text") -> Path:
    """A prepared folder of two shards for training and one for validation."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer or ByteTokenizer()
    shards = {}
    for side, data in (("train", train), ("val", b"more")):
        with ShardWriter(folder, side, tokenizer.vocab_size, tokenizer.fingerprint, shard_tokens=5) as writer:
            writer.append(np.frombuffer(data, np.uint8), np.array([0]))
        shards[side] = writer.paths
    write_index(folder, tokenizer, encoded(shards, len(train), 4), {"corpus": "x"})
    return folder


def test_another_process_is_sent_files_not_tokens(tmp_path: Path) -> None:
    """A loader worker under spawn, say; the tokens would be the whole corpus."""
    prepared = open_prepared(make(tmp_path / "a", train=b"some text" * 5))
    sent = pickle.dumps(prepared.val)
    assert len(sent) < 1000
    windows = Windows([_one_shard(tmp_path, 3_000_000)], 64)
    sent = pickle.dumps(TrainBatches(TrainOrder(windows, 0), 4))
    assert len(sent) < 10_000
    before, after = TrainBatches(TrainOrder(windows, 0), 4), pickle.loads(sent)
    assert all((a == b).all() for step in (0, 5, 1000) for a, b in zip(before[step], after[step], strict=True))
    again = pickle.loads(pickle.dumps(prepared.train))
    assert [shard.tolist() for shard in again.shards[:3]] == [shard.tolist() for shard in prepared.train.shards[:3]]
    assert [starts.tolist() for starts in again.document_starts[:2]] == [[0], []]


def test_arrays_in_memory_and_parts_of_shards_are_sent_as_they_are(tmp_path: Path) -> None:
    whole = _one_shard(tmp_path, 1000)
    for shard in (np.arange(300), whole[100:400]):
        [again] = pickle.loads(pickle.dumps(Windows([shard], 64))).shards
        assert (again == shard).all()


def _one_shard(folder: Path, size: int) -> np.ndarray:
    with ShardWriter(folder, "large", 257, "00" * 32) as writer:
        writer.append(np.arange(size) % 251, np.array([0]))
    return open_shard(writer.paths[0])


def test_it_opens_as_it_was_written(tmp_path: Path) -> None:
    prepared = open_prepared(make(tmp_path / "a"))
    assert isinstance(prepared, Prepared)
    assert prepared.tokenizer.fingerprint == ByteTokenizer().fingerprint
    assert [bytes(shard) for shard in prepared.train.shards] == [b"s\0o\0m\0e\0 \0", b"t\0e\0x\0t\0"]
    assert [starts.tolist() for starts in prepared.train.document_starts] == [[0], []]
    assert (prepared.train.n_tokens, prepared.train.n_documents, prepared.train.n_bytes) == (9, 1, 9)
    assert (prepared.val.n_tokens, prepared.val.n_documents, prepared.val.n_bytes) == (4, 1, 4)
    assert prepared.meta == {"corpus": "x"}
    assert prepared.folder == tmp_path / "a"


def test_the_fingerprint_is_of_tokens_and_tokenizer_wherever_they_lie(tmp_path: Path) -> None:
    first = open_prepared(make(tmp_path / "a")).fingerprint
    assert open_prepared(make(tmp_path / "b")).fingerprint == first
    assert open_prepared(make(tmp_path / "c", train=b"same text")).fingerprint != first
    characters = CharTokenizer(map(chr, range(256)), end_of_text=True, unknown=False)
    assert open_prepared(make(tmp_path / "d", characters)).fingerprint != first
    assert open_prepared((tmp_path / "a").rename(tmp_path / "e")).fingerprint == first


def test_only_an_index_makes_a_folder_prepared(tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    assert is_prepared(folder)
    (folder / "index.json").unlink()
    assert not is_prepared(folder)
    with pytest.raises(DataError, match=r"a: not a prepared corpus: no index.json in it"):
        open_prepared(folder)


def edit(folder: Path, **changes: Any) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "minigpt prepared text 2"}, r"its format is 'minigpt prepared text 2', expected 'minigpt prepared"),
        ({"fingerprint": "0"}, r"index.json: damaged: its fingerprint is 0, expected \w{64}"),
        ({"train": {}}, r"index.json: damaged: KeyError\('shards'\)"),
        ({"train": None}, r"index.json: damaged: TypeError"),
        ({"tokenizer": "missing.json"}, r"missing.json: no such tokenizer file"),
    ],
)
def test_a_changed_index_is_noticed(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = make(tmp_path / "a")
    edit(folder, **changes)
    with pytest.raises(DataError, match=message) as caught:
        open_prepared(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"", b"\xff"])
def test_an_index_that_is_none(tmp_path: Path, content: bytes) -> None:
    folder = make(tmp_path / "a")
    (folder / "index.json").write_bytes(content)
    with pytest.raises(DataError, match=r"index.json: (damaged|its format)"):
        open_prepared(folder)


def test_a_flipped_bit_in_a_shard_is_found_at_the_next_start(tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    open_prepared(folder)
    path = folder / "train-00001.bin"
    data = bytearray(path.read_bytes())
    data[257] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train-00001.bin: damaged: its content has checksum \w+, expected \w+"):
        open_prepared(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    (folder / "val-00000.bin").unlink()
    with pytest.raises(DataError, match=r"val-00000.bin: this shard is missing"):
        open_prepared(folder)


def test_shards_of_another_corpus_or_tokenizer_are_refused(tmp_path: Path) -> None:
    folder, other = make(tmp_path / "a"), make(tmp_path / "b", train=b"same text")
    shutil.copy(other / "train-00000.bin", folder)
    with pytest.raises(DataError, match=r"train-00000.bin: not the shard of the index: checksum \w+, expected"):
        open_prepared(folder)
    characters = CharTokenizer(map(chr, range(256)), end_of_text=True, unknown=False)
    shutil.copy(make(tmp_path / "c", characters) / "train-00000.bin", folder)
    with pytest.raises(
        DataError, match=r"train-00000.bin: made with another tokenizer: its fingerprint is \w{16}, exp"
    ):
        open_prepared(folder)


def test_a_token_beyond_the_vocabulary_is_found_before_it_reaches_the_model(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    shards = {}
    for side, tokens in {"train": [1, 2, 300], "val": [3, 4]}.items():
        with ShardWriter(tmp_path, side, tokenizer.vocab_size, tokenizer.fingerprint) as writer:
            writer.append(np.array(tokens, dtype=np.uint16), np.array([0], dtype=np.uint64))
        shards[side] = writer.paths
    write_index(tmp_path, tokenizer, encoded(shards, 3, 2), {})
    with pytest.raises(DataError, match=r"train-00000.bin: holds token 300, beyond the vocabulary of 257"):
        open_prepared(tmp_path)

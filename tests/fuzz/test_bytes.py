"""Files with damage anywhere: shards, indexes, checkpoints, tokenizers, corpora end in a result or in one line."""

import gzip
import hashlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from helpers import TEXT, checkpoint_content, random_gpt, tiny_config, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.api import load
from minigpt.data.batches import Windows
from minigpt.data.corpus import open_corpus
from minigpt.data.encoding import EncodedCorpus
from minigpt.data.options import PrepareOptions
from minigpt.data.prepare import prepare
from minigpt.data.prepared import open_prepared, write_index
from minigpt.data.shards import HEADER_BYTES, ShardWriter, checksum_of
from minigpt.data.tokenizers import ByteTokenizer, load_tokenizer
from minigpt.errors import MinigptError, printable
from minigpt.evaluate.loss import evaluate
from minigpt.runs.archive import write_archive
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.system.marks import write_mark

from .configs import odd, spoilt_bytes
from .outcome import check_ending, check_line, more, run

T = TypeVar("T")


def or_one_line(action: Callable[[], T]) -> T | None:
    """What `action` gives, or None after an error that says in one line what is wrong. Any other error fails."""
    try:
        return action()
    except (MinigptError, MemoryError) as error:
        check_line(printable(str(error)) or type(error).__name__)
        return None


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in nested dicts and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """`value` with `other` at `path`; it is copied, not changed."""
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], other)
    return copy


@st.composite
def altered(draw: st.DrawFn, value: Any, others: st.SearchStrategy[Any] = odd) -> Any:
    """`value` with one or two of the values in it replaced by odd ones."""
    for _ in range(draw(st.integers(1, 2))):
        value = replaced(value, draw(st.sampled_from(places(value))), draw(others))
    return value


# ----- prepared folders


def make_prepared(folder: Path) -> None:
    """Two shards for training, one for validation, in bytes."""
    folder.mkdir()
    tokenizer = ByteTokenizer()
    shards: dict[Any, list[Path]] = {}
    for side, data in (("train", b"some text of forty letters, give or take"), ("val", b"a little more")):
        with ShardWriter(folder, side, tokenizer.vocab_size, tokenizer.fingerprint, shard_tokens=25) as writer:
            writer.append(np.frombuffer(data, np.uint8), np.array([0, 5]))
        shards[side] = writer.paths
    meta = {"corpus": "x", "tokenizer": "byte", "vocab_size": 257, "val_fraction": 0.1, "split": "auto"}
    encoded = EncodedCorpus(shards, {}, {"train": 40, "val": 13}, {"train": "t", "val": "v"})
    write_index(folder, tokenizer, encoded, meta | {"unknown": False, "keys": ["a", "b"]})


@pytest.fixture
def prepared(inside: Path) -> Path:
    make_prepared(inside / "good")
    write_mark(inside / "good", "prepared text")
    return inside / "good"


def use(folder: Path) -> None:
    """Open a prepared folder and read everything in it."""
    opened = or_one_line(lambda: open_prepared(folder))
    if opened is not None:
        for split in (opened.train, opened.val):
            or_one_line(lambda shards=split.shards: Windows(shards, 4).gather(*Windows(shards, 4).locate(np.arange(2))))
            assert all(int(shard.max()) < opened.tokenizer.vocab_size for shard in split.shards)
            for shard, starts in zip(split.shards, split.document_starts, strict=True):
                assert (starts <= len(shard)).all(), "a document begins inside its shard"
                assert (np.diff(starts.astype(np.int64)) >= 0).all(), "starts ascend"


def fresh(good: Path) -> Path:
    """A copy of the folder to spoil, under a name of its own: what was checked of another must not count for it."""
    bad = good.with_name("bad")
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(good, bad)
    return bad


@settings(max_examples=more(3))
@given(data=st.data())
def test_a_spoilt_shard(prepared: Path, data: st.DataObject) -> None:
    """Anywhere; and with checksum and index put right again, so that what lies behind them is reached."""
    folder = fresh(prepared)
    path = data.draw(st.sampled_from(sorted(folder.glob("*.bin"))))
    path.write_bytes(data.draw(spoilt_bytes(path.read_bytes())))
    if data.draw(st.booleans()) and path.stat().st_size >= HEADER_BYTES:
        forge_checksums(folder, path)
    use(folder)


def forge_checksums(folder: Path, path: Path) -> None:
    """As a careful forger would leave them."""
    content = path.read_bytes()
    path.write_bytes(content[:64] + bytes.fromhex(checksum_of(path)) + content[96:])
    index = json.loads((folder / "index.json").read_text())
    for side in ("train", "val"):
        for number, name in enumerate(index[side]["shards"]):
            if name == path.name:
                index[side]["checksums"][number] = checksum_of(path)
    fingerprint = [ByteTokenizer().fingerprint, index["train"]["checksums"], index["val"]["checksums"]]
    index["fingerprint"] = hashlib.sha256(json.dumps(fingerprint).encode()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))


@settings(max_examples=more(3))
@given(data=st.data())
def test_a_spoilt_index(prepared: Path, data: st.DataObject) -> None:
    folder = fresh(prepared)
    good = (folder / "index.json").read_bytes()
    as_json = altered(json.loads(good)).map(lambda index: json.dumps(index).encode())
    (folder / "index.json").write_bytes(data.draw(st.one_of(as_json, as_json, spoilt_bytes(good))))
    use(folder)
    if data.draw(st.integers(0, 29)) == 0:  # each starts a worker process
        Path("text.txt").write_text("a text of some length to prepare\n" * 3)
        options = PrepareOptions(corpus="text.txt", tokenizer="byte")
        assert or_one_line(lambda: prepare(options, folder, overwrite=True)) is not None, "what is spoilt is made anew"


# ----- checkpoints


@pytest.fixture
def content() -> dict[str, Any]:
    return checkpoint_content(random_gpt(tiny_config(n_layer=1)), ByteTokenizer(), data={"corpus": "text.txt"})


def use_checkpoint(path: Path) -> None:
    """Load it, and write a token with it."""
    loaded = or_one_line(lambda: load(path))
    if loaded is not None:
        or_one_line(lambda: loaded.generate("ab", max_new_tokens=2, greedy=True))
        bytes_of = loaded.tokenizer.token_bytes()
        or_one_line(lambda: evaluate(loaded.model, [np.arange(9, dtype=np.uint16)], bytes_of))


@settings(max_examples=more(3))
@given(data=st.data())
def test_a_checkpoint_with_spoilt_bytes(inside: Path, content: dict[str, Any], data: st.DataObject) -> None:
    write_archive(content, Path("a.ckpt"))
    good = Path("a.ckpt").read_bytes()
    Path("a.ckpt").write_bytes(data.draw(spoilt_bytes(good)))
    assert Path("a.ckpt").read_bytes() == good or or_one_line(lambda: read_checkpoint("a.ckpt")) is None, "found"


@settings(max_examples=more(3))
@given(data=st.data())
def test_a_checkpoint_with_a_forged_checksum(inside: Path, content: dict[str, Any], data: st.DataObject) -> None:
    """Another pickle, or a spoilt one, inside a zip that is in order, with its checksum or with none."""
    good = io.BytesIO()
    torch.save(content, good)
    archive = zipfile.ZipFile(good)
    parts = {name: archive.read(name) for name in archive.namelist()}
    name = data.draw(st.sampled_from([*[name for name in parts if name.endswith("data.pkl")] * 5, *parts]))
    pickles = st.one_of(odd.map(lambda value: pickle.dumps(value, protocol=2)), st.binary(max_size=50))
    parts[name] = data.draw(st.one_of(spoilt_bytes(parts[name]), spoilt_bytes(parts[name]), pickles))
    write_zip(parts, Path("a.ckpt"), with_checksum=data.draw(st.booleans()))
    use_checkpoint(Path("a.ckpt"))


def write_zip(parts: dict[str, bytes], path: Path, *, with_checksum: bool) -> None:
    """A zip as `write_archive` leaves it, or as torch does."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    if with_checksum:
        body = path.read_bytes()
        comment = b"sha256:" + hashlib.sha256(body).hexdigest().encode()
        path.write_bytes(body[:-2] + len(comment).to_bytes(2, "little") + comment)


tensors = st.sampled_from([torch.zeros(0), torch.zeros(3), torch.full((16, 16), torch.nan), torch.ones(2, dtype=int)])


@settings(max_examples=more(4))
@given(data=st.data())
def test_a_checkpoint_with_odd_contents(inside: Path, content: dict[str, Any], data: st.DataObject) -> None:
    kept = st.one_of(odd, odd, tensors)
    torch.save(data.draw(st.one_of(altered(content, kept), altered(content["minigpt"], kept).map(
        lambda entry: content | {"minigpt": entry}
    ))), "a.ckpt")  # fmt: skip
    use_checkpoint(Path("a.ckpt"))


@settings(max_examples=more(1))
@given(data=st.data())
def test_validate_and_go_on_from_odd_contents(inside: Path, data: st.DataObject) -> None:
    """Every key that Lightning wrote too, through the commands. Numbers stay small: they are steps to train."""
    if not Path("runs/a").exists():
        Path("text.txt").write_text("".join(f"line {n}: {n * 7}\n" for n in range(50)))
        assert run(fit_words("text.txt")).code == 0
    good = torch.load("runs/a/checkpoints/step=00000001.ckpt", weights_only=True)
    kept = st.one_of(odd, odd, tensors)
    bad = data.draw(st.one_of(altered(good, kept), *(
        altered(good[key], kept).map(lambda value, key=key: good | {key: value})
        for key in ("optimizer_states", "loops", "callbacks", "minigpt", "state_dict", "TokenDataModule")
        if key in good
    )))  # fmt: skip
    torch.save(bad, "odd.ckpt")
    check_ending(run(["validate", "odd.ckpt", "--data.corpus", "text.txt"]))
    check_ending(run([*fit_words("text.txt", steps=2), "--ckpt_path", "odd.ckpt"]))


def fit_words(corpus: str, steps: int = 1) -> list[str]:
    """A run of a moment, from the command line alone."""
    settings = {
        "run.name": "a", "run.sample_every": 0, "run.save_every": 1, "run.eval_batches": 1, "model.block_size": 8,
        "model.n_layer": 1, "model.n_head": 2, "model.n_embd": 8, "data.tokenizer": "byte", "data.batch_size": 2,
        "data.corpus": corpus, "trainer.max_steps": steps, "trainer.accelerator": "cpu", "trainer.devices": 1,
        "trainer.enable_progress_bar": "false", "trainer.logger": "false",
    }  # fmt: skip
    return ["fit", *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]


# ----- tokenizers and corpora


@settings(max_examples=more(5))
@given(data=st.data(), text=st.text(max_size=30))
def test_a_spoilt_tokenizer(inside: Path, data: st.DataObject, text: str) -> None:
    good = tiny_tokenizer(data.draw(st.sampled_from(["byte", "char", "bpe"]))).to_json()
    as_json = altered(json.loads(good)).map(lambda fields: json.dumps(fields).encode())
    Path("t.json").write_bytes(data.draw(st.one_of(as_json, as_json, spoilt_bytes(good.encode()))))
    tokenizer = or_one_line(lambda: load_tokenizer(Path("t.json")))
    if tokenizer is None:
        return
    assert len(tokenizer.token_bytes()) == tokenizer.vocab_size
    for each in (text, TEXT):
        ids = or_one_line(lambda each=each: tokenizer.encode(each))
        if ids is not None:
            assert all(0 <= token < tokenizer.vocab_size for token in ids)
            or_one_line(lambda ids=ids: tokenizer.decode(ids))
        or_one_line(lambda each=each: tokenizer.encode_batch([each, each]))


@settings(max_examples=more(5))
@given(data=st.data())
def test_a_spoilt_corpus(inside: Path, data: st.DataObject) -> None:
    lines = st.lists(
        st.one_of(
            st.fixed_dictionaries({"text": st.text(max_size=9) | odd}).map(json.dumps),
            odd.map(json.dumps),
            st.text(max_size=20),
            st.sampled_from(["[" * 20_000, '{"text": "\\ud800"}', '{"text": "a"', "NaN", "1" * 5000]),
        ),
        max_size=4,
    )
    content = data.draw(
        st.one_of(
            lines.map(lambda each: "\n".join(each).encode("utf-8", errors="surrogatepass")),
            st.binary(max_size=60),
            spoilt_bytes(b'{"text": "one"}\n\n{"text": "two", "more": [1, 2]}\r\n'),
        )
    )
    name = data.draw(st.sampled_from(["a.txt", "a.jsonl", "a.jsonl.gz", "a.txt.gz", "a.txt.zst", "a.parquet"]))
    if name.endswith(".gz"):
        content = data.draw(st.one_of(st.just(gzip.compress(content)), spoilt_bytes(gzip.compress(content))))
    Path(name).write_bytes(content)
    or_one_line(lambda: list(open_corpus(name).documents()))

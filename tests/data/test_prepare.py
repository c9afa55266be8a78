import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from minigpt.data.pieces import PIECE_BYTES
from minigpt.data.prepare import Prepared, PrepareOptions, open_prepared, prepare, prepare_cached
from minigpt.data.shards import ShardWriter, open_shard
from minigpt.data.tokenizers import ByteTokenizer, train_tokenizer
from minigpt.errors import ConfigError, DataError


def lines(count: int) -> str:
    return "".join(f"line {i}: été {i * i}\n" for i in range(count))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One text of three pieces."""
    path = tmp_path_factory.mktemp("large") / "large.txt"
    path.write_text(lines(5000) * 90)
    assert 8 << 20 < path.stat().st_size < 12 << 20
    return path


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    """Two hundred short documents."""
    path = tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps({"text": f"document {i} é"}) + "\n" for i in range(200)))
    return path


def options(corpus: Path | str, tokenizer: str = "byte", **settings: Any) -> PrepareOptions:
    return PrepareOptions(corpus=str(corpus), tokenizer=tokenizer, **settings)


def tokens(prepared: Prepared, side: str) -> list[int]:
    return [int(token) for shard in getattr(prepared, side).shards for token in shard]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "index.json"}


# --- what comes out ---


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_a_single_text_is_cut_at_a_position_and_has_no_end(tmp_path: Path, tokenizer: str) -> None:
    text = lines(500)
    (tmp_path / "a.txt").write_text(text)
    prepared = prepare(options(tmp_path / "a.txt", tokenizer, vocab_size=300), tmp_path / "out")
    train, val = (prepared.tokenizer.decode(tokens(prepared, side)) for side in ("train", "val"))
    assert train + val == text
    assert 0 <= len(text.encode()) * 0.9 - len(train.encode()) < 3
    assert prepared.tokenizer.end_of_text not in tokens(prepared, "train")
    assert (prepared.train.n_bytes, prepared.val.n_bytes) == (len(train.encode()), len(val.encode()))
    assert (prepared.train.n_tokens, prepared.val.n_tokens) == tuple(len(tokens(prepared, s)) for s in ("train", "val"))
    assert [starts.tolist() for starts in prepared.train.document_starts + prepared.val.document_starts] == [[0], [0]]
    assert prepared.tokenizer.token_bytes()[tokens(prepared, "train")].sum() == prepared.train.n_bytes
    assert prepared.meta["split_by"] == "position"


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_a_book_and_a_readme_hold_out_the_share(large: Path, tmp_path: Path, tokenizer: str) -> None:
    """Whole documents would hold out one of them: 99.9 % of the text, or next to nothing."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "book.txt").write_bytes(large.read_bytes())
    (folder / "readme.md").write_text("read me\n" * 5)
    one, two = (
        prepare(options(folder, tokenizer, vocab_size=300, workers=workers), tmp_path / str(workers))
        for workers in (1, 2)
    )
    assert one.fingerprint == two.fingerprint
    assert one.meta["split_by"] == "within"
    assert one.val.n_bytes / (one.val.n_bytes + one.train.n_bytes) == pytest.approx(0.1, abs=1e-4)
    assert one.held_out == "10.0% (the ends of long documents, short ones whole)"
    end = one.tokenizer.end_of_text
    texts = [one.tokenizer.decode(t for t in tokens(one, side) if t != end) for side in ("train", "val")]
    book, readme = large.read_text(), "read me\n" * 5
    assert texts[0].replace(readme, "") + texts[1] == book
    assert [tokens(one, side).count(end) for side in ("train", "val")] == [2, 1], "each part is closed"


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_several_documents_are_closed_and_go_whole_to_one_side(jsonl: Path, tmp_path: Path, tokenizer: str) -> None:
    prepared = prepare(options(jsonl, tokenizer, vocab_size=300), tmp_path / "out")
    found: set[str] = set()
    for split in (prepared.train, prepared.val):
        [shard], [starts] = split.shards, split.document_starts
        documents = np.split(shard, starts[1:].astype(int))
        assert len(documents) == split.n_documents
        assert all(document[-1] == prepared.tokenizer.end_of_text for document in documents)
        texts = [prepared.tokenizer.decode(document) for document in documents]
        assert sum(len(text.encode()) for text in texts) == split.n_bytes
        assert not found & set(texts)
        found |= set(texts)
    assert found == {f"document {i} é" for i in range(200)}
    assert 8 <= prepared.val.n_documents <= 35
    assert prepared.meta["split_by"] == "documents"


def test_a_document_of_several_pieces_is_closed_once(large: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(large.read_text())
    (folder / "b.txt").write_text("short\n")
    prepared = prepare(options(folder, split="documents"), tmp_path / "out")
    both = [prepared.train, prepared.val]
    assert sorted(split.n_tokens - split.n_bytes for split in both) == [1, 1]
    assert all(split.shards[0][-1] == 256 for split in both)
    assert [starts.tolist() for split in both for starts in split.document_starts] == [[0], [0]]


def test_several_documents_may_be_cut_at_a_position(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {"a": "aaaa", "b": "bbbb", "c": "cccc"}.items():
        (folder / f"{name}.txt").write_text(text)
    prepared = prepare(options(folder, split="position", val_fraction=0.5), tmp_path / "out")
    end = [256]
    assert tokens(prepared, "train") == [*b"aaaa", *end, *b"bb"]
    assert tokens(prepared, "val") == [*b"bb", *end, *b"cccc", *end]
    assert [split.document_starts[0].tolist() for split in (prepared.train, prepared.val)] == [[0, 5], [0, 3]]


def test_char_knows_the_whole_corpus_and_bpe_learns_from_the_training_part(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab" * 500 + "xyz" * 37)
    char = prepare(options(tmp_path / "a.txt", "char"), tmp_path / "char")
    assert char.tokenizer.encode("abxyz") == [0, 1, 2, 3, 4]
    bpe = prepare(options(tmp_path / "a.txt", "bpe", vocab_size=270), tmp_path / "bpe")
    assert len(bpe.tokenizer.encode("abab")) < 4
    assert len(bpe.tokenizer.encode("xyz")) == 3


def test_unknown_gives_char_one_more_id(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(lines(100))
    plain = prepare(options(tmp_path / "a.txt", "char"), tmp_path / "a")
    lenient = prepare(options(tmp_path / "a.txt", "char", unknown=True), tmp_path / "b")
    assert lenient.tokenizer.vocab_size == plain.tokenizer.vocab_size + 1
    lenient.tokenizer.encode("五")


def test_the_hash_is_of_the_text_whatever_its_tokens_its_file_and_its_pieces(large: Path, tmp_path: Path) -> None:
    text = large.read_text()
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": text}) + "\n")
    (tmp_path / "two.txt").write_text(text)
    made = [
        prepare(options(corpus, tokenizer, workers=workers), tmp_path / str(number))
        for number, (corpus, tokenizer, workers) in enumerate(
            [(large, "byte", 2), (tmp_path / "two.txt", "char", 1), (tmp_path / "one.jsonl", "byte", 1)]
        )
    ]
    train, val = (made[0].tokenizer.decode_bytes(tokens(made[0], side)) for side in ("train", "val"))
    assert {each.train.text_hash for each in made} == {hashlib.sha256(train).hexdigest()}
    assert {each.val.text_hash for each in made} == {hashlib.sha256(val + b"\xff").hexdigest()}
    assert made[0].identity.same_held_out(made[1].identity)


def test_the_same_text_in_other_documents_is_another_text(tmp_path: Path) -> None:
    for name, documents in {"a": ["one two", " three"], "b": ["one", " two three"]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in documents))
    one, other = (
        prepare(options(tmp_path / f"{name}.jsonl", split="position", val_fraction=0.5), tmp_path / name)
        for name in "ab"
    )
    assert one.val.n_bytes == other.val.n_bytes
    assert one.identity.same_held_out(other.identity) is False


def test_shards_of_an_older_version_have_no_hash_and_are_made_anew_by_whoever_asks_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(lines(50))
    now = prepare(options(tmp_path / "a.txt"), tmp_path / "out")
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    for side in ("train", "val"):
        del index[side]["text_sha256"]
    (tmp_path / "out" / "index.json").write_text(json.dumps(index))
    old = open_prepared(tmp_path / "out")
    assert old.val.text_hash == ""
    assert old.identity.same_held_out(now.identity) is True  # the tokens are the same
    assert prepare(options(tmp_path / "a.txt"), tmp_path / "out").val.text_hash == now.val.text_hash


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_workers_change_no_bit_and_pieces_no_token(large: Path, tmp_path: Path, tokenizer: str) -> None:
    chosen = options(large, tokenizer, vocab_size=300)
    learnt = (
        train_tokenizer("bpe", [lines(500)], 300, False) if tokenizer == "bpe" else None
    )  # not from all of it: time
    one = prepare(chosen, tmp_path / "1", tokenizer=learnt)
    two = prepare(replace(chosen, workers=2), tmp_path / "2", tokenizer=learnt)
    assert content(one.folder) == content(two.folder)
    assert one.fingerprint == two.fingerprint
    data, shard = large.read_bytes(), one.train.shards[0]
    places = np.cumsum(one.tokenizer.token_bytes()[shard])
    assert places[-1] == one.train.n_bytes
    for end_of_piece in (PIECE_BYTES, 2 * PIECE_BYTES):
        # Between two ends of lines, with the place in it where one piece ends and the next begins.
        start, stop = (data.index(b"\n", end_of_piece + about) for about in (-100_000, 1000))
        first, last = np.searchsorted(places, [start, stop]) + 1
        assert shard[first:last].tolist() == one.tokenizer.encode(data[start:stop].decode())


def test_compressed_or_not_the_shards_are_the_same(large: Path, tmp_path: Path) -> None:
    import gzip

    (tmp_path / "large.txt.gz").write_bytes(gzip.compress(large.read_bytes(), 1))
    packed = prepare(options(tmp_path / "large.txt.gz", workers=2), tmp_path / "a")
    assert packed.fingerprint == prepare(options(large), tmp_path / "b").fingerprint


def test_a_tokenizer_at_hand_is_used(jsonl: Path, tmp_path: Path) -> None:
    tokenizer = train_tokenizer("bpe", ["document " * 9], 265, False)
    (tmp_path / "t.json").write_text(tokenizer.to_json())
    by_file = prepare(options(jsonl, str(tmp_path / "t.json")), tmp_path / "a")
    by_hand = prepare(options(jsonl, "byte"), tmp_path / "b", tokenizer=tokenizer)
    assert by_file.tokenizer.fingerprint == tokenizer.fingerprint
    assert by_file.fingerprint == by_hand.fingerprint


def test_progress_counts_up_to_all_of_it(large: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    prepare(options(large, workers=2), tmp_path / "out", progress=lambda *report: seen.append(report))
    size = large.stat().st_size
    for stage in ("reading", "tokenising"):
        reports = [(done, total) for name, done, total in seen if name == stage]
        assert [done for done, _ in reports] == sorted(done for done, _ in reports)
        assert len(reports) >= 3
        assert reports[-1] == (size, size)


def test_the_folder_holds_what_the_index_names_and_nothing_else(jsonl: Path, tmp_path: Path) -> None:
    folder = prepare(options(jsonl), tmp_path / "out").folder
    index = json.loads((folder / "index.json").read_text())
    named = {"index.json", ".lock", ".minigpt", index["tokenizer"], *index["train"]["shards"], *index["val"]["shards"]}
    assert {path.name for path in folder.iterdir()} <= named


# --- once for each content ---


def test_the_second_time_it_is_only_opened(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_cached(options(jsonl))
    monkeypatch.setattr("minigpt.data.prepare._write_shards", None)
    second = prepare_cached(options(jsonl, workers=2))
    assert (second.folder, second.fingerprint) == (first.folder, first.fingerprint)


def test_the_folder_is_named_after_what_it_holds(jsonl: Path, cache: Path, tmp_path: Path) -> None:
    folder = prepare_cached(options(jsonl)).folder
    assert folder.parent == cache / "data"
    assert folder.name.startswith("some-byte-")
    assert prepare_cached(options(jsonl), cache=tmp_path / "x").folder == tmp_path / "x" / "data" / folder.name


@pytest.mark.parametrize(
    "setting",
    [
        {"tokenizer": "char"},
        {"tokenizer": "bpe", "vocab_size": 260},
        {"tokenizer": "bpe", "vocab_size": 261},
        {"val_fraction": 0.2},
        {"split": "position"},
        {"tokenizer": "char", "unknown": True},
    ],
)
def test_what_changes_the_result_changes_the_folder(jsonl: Path, setting: dict[str, Any]) -> None:
    base = prepare_cached(options(jsonl))
    other = prepare_cached(options(jsonl, **setting))
    assert other.folder != base.folder
    assert other.fingerprint != base.fingerprint


def test_an_edited_text_is_never_mixed_up_with_what_it_was(jsonl: Path) -> None:
    state = jsonl.stat()
    before = prepare_cached(options(jsonl))
    jsonl.write_text(jsonl.read_text().replace("document 7 ", "Document 7 "))
    os.utime(jsonl, ns=(state.st_atime_ns, state.st_mtime_ns))  # same size, same time
    after = prepare_cached(options(jsonl))
    assert after.folder != before.folder
    texts = [
        prepared.tokenizer.decode(tokens(prepared, "train") + tokens(prepared, "val")) for prepared in (before, after)
    ]
    assert ["Document 7 " in text for text in texts] == [False, True]
    jsonl.write_text(jsonl.read_text().replace("Document 7 ", "document 7 "))
    assert prepare_cached(options(jsonl)).folder == before.folder


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_a_learnt_tokenizer_given_back_finds_the_same_shards(
    jsonl: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `validate` and a resumed run do it: with the tokenizer of the checkpoint."""
    first = prepare_cached(options(jsonl, tokenizer, vocab_size=270))
    monkeypatch.setattr("minigpt.data.prepare._write_shards", None)
    second = prepare_cached(options(jsonl, tokenizer, vocab_size=270), tokenizer=first.tokenizer)
    assert second.folder == first.folder


def test_two_at_once_prepare_once(jsonl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minigpt.data import prepare as module

    written: list[Path] = []
    write: Callable[..., None] = module._write_shards

    def record(recipe: Any, out: Path, progress: bool) -> None:
        written.append(out)
        write(recipe, out, progress)

    monkeypatch.setattr(module, "_write_shards", record)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(prepare_cached(options(jsonl)).fingerprint)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(written) == 1


def test_waiting_for_another_process_is_told(jsonl: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lock = FileLock(tmp_path / "out" / ".lock")
    lock.acquire()
    seen: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append(stage)
        if stage.startswith("waiting"):
            lock.release()

    prepare(options(jsonl), tmp_path / "out", progress=progress)
    assert seen[0] == "waiting for another process"


def test_what_another_process_made_meanwhile_is_not_replaced(jsonl: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    theirs = prepare(options(jsonl, "char"), tmp_path / "theirs")
    out.mkdir()
    lock = FileLock(out / ".lock")
    lock.acquire()

    def progress(stage: str, done: int, total: int) -> None:
        if stage.startswith("waiting"):
            shutil.copytree(theirs.folder, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock"))
            lock.release()

    with pytest.raises(DataError, match="holds another prepared text"):
        prepare(options(jsonl), out, progress=progress)
    assert open_prepared(out).fingerprint == theirs.fingerprint


def test_what_is_damaged_in_the_cache_names_the_way_out(jsonl: Path) -> None:
    folder = prepare_cached(options(jsonl)).folder
    [shard] = folder.glob("train-*.bin")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"bytes, expected .*; remove {folder} to have it prepared again"):
        prepare_cached(options(jsonl))


def test_preparing_into_the_same_folder_again_opens_or_replaces(jsonl: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = prepare(options(jsonl), out)
    assert prepare(options(jsonl), out).fingerprint == first.fingerprint
    with pytest.raises(DataError, match=r"holds another prepared text .*; --overwrite replaces it"):
        prepare(options(jsonl, "char"), out)
    assert open_prepared(out).fingerprint == first.fingerprint
    second = prepare(options(jsonl, "char"), out, overwrite=True)
    assert second.tokenizer.kind == "char"
    assert open_prepared(out).fingerprint == second.fingerprint
    index = json.loads((out / "index.json").read_text())
    shards = {path.name for path in out.glob("*.bin")}
    assert shards == {*index["train"]["shards"], *index["val"]["shards"]}


def test_the_second_time_no_large_file_is_read(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.data.corpus._MEMO_BYTES", 1000)
    first = prepare_cached(options(large))
    monkeypatch.setattr("minigpt.data.shards.checksum_of", None)
    opened: list[str] = []
    open_path = Path.open

    def record(path: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(path.name)
        return open_path(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", record)
    assert prepare_cached(options(large)).fingerprint == first.fingerprint
    assert large.name not in opened


# --- stopped in the middle ---

KILLED = """
import os, signal, sys
from pathlib import Path
from minigpt.data.pieces import PIECE_BYTES
from minigpt.data.prepare import PrepareOptions, prepare

def progress(stage, done, total):
    if stage == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

prepare(PrepareOptions(corpus=sys.argv[1], tokenizer=sys.argv[4], vocab_size=260), Path(sys.argv[2]), progress=progress)
"""


def kill_while(stage: str, corpus: Path, out: Path, tokenizer: str = "byte") -> Path:
    """Prepare in a process that is killed in the middle of a stage; gives its work folder."""
    command = [sys.executable, "-c", KILLED, str(corpus), str(out), stage, tokenizer]
    assert subprocess.run(command, check=False).returncode == -9
    [work] = (out / ".work").iterdir()
    return work


@pytest.mark.parametrize("stage", ["reading", "learning the vocabulary", "tokenising"])
def test_a_killed_run_is_taken_up(large: Path, tmp_path: Path, stage: str) -> None:
    corpus, tokenizer, out = large, "byte", tmp_path / "out"
    if stage == "learning the vocabulary":
        corpus, tokenizer = tmp_path / "small.txt", "bpe"
        corpus.write_text(lines(1000))
    kill_while(stage, corpus, out, tokenizer)
    with pytest.raises(DataError, match="not a prepared corpus"):
        open_prepared(out)
    chosen = options(corpus, tokenizer, vocab_size=260)
    assert prepare(chosen, out).fingerprint == prepare(chosen, tmp_path / "fresh").fingerprint
    assert content(out) == content(tmp_path / "fresh")
    assert not list(out.glob(".work*")) + list(out.glob(".*tmp*"))


def first_piece(work: Path) -> Path:
    [path] = work.glob("piece-000000-train-*.bin")
    return path


def test_finished_pieces_are_not_done_again(large: Path, tmp_path: Path) -> None:
    """The first piece is exchanged for another that is whole: what comes out begins with that."""
    work = kill_while("tokenising", large, tmp_path / "out")
    kept = np.array(open_shard(first_piece(work)))
    tokenizer = ByteTokenizer()
    with ShardWriter(
        work, "piece-000000-train", tokenizer.vocab_size, tokenizer.fingerprint, shard_tokens=1 << 62
    ) as writer:
        writer.append(kept[::-1], np.array([0]))
    prepared = prepare(options(large), tmp_path / "out")
    assert np.array_equal(prepared.train.shards[0][: len(kept)], kept[::-1])


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "note"])
def test_a_damaged_piece_is_done_again(large: Path, tmp_path: Path, damage: str) -> None:
    work = kill_while("tokenising", large, tmp_path / "out")
    path = first_piece(work)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[1000] ^= 4
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:1000])
    elif damage == "remove":
        path.unlink()
    else:
        (work / "piece-000000.json").write_text("[")
    assert (
        prepare(options(large), tmp_path / "out").fingerprint == prepare(options(large), tmp_path / "new").fingerprint
    )


def test_a_changed_text_starts_over(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(lines(1000))
    kill_while("tokenising", path, tmp_path / "out")
    path.write_text(lines(1000).replace("7", "8"))
    kill_while("tokenising", path, tmp_path / "out")  # finds one work folder: that of the former text is gone
    assert prepare(options(path), tmp_path / "out").fingerprint == prepare(options(path), tmp_path / "new").fingerprint


def test_a_text_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(lines(1000))

    def change(stage: str, done: int, total: int) -> None:
        if stage == "tokenising":
            path.write_text(lines(1000).replace("7", "8"))

    with pytest.raises(DataError, match=r"corpus .*a.txt: changed while it was prepared; run again"):
        prepare(options(path), tmp_path / "out", progress=change)
    prepared = prepare(options(path), tmp_path / "out")
    assert b"7" not in bytes(prepared.train.shards[0].astype(np.uint8))


def test_an_interrupt_leaves_no_worker_and_what_is_finished(large: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "tokenising":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(options(large, workers=2), tmp_path / "out", progress=interrupt)
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
    )
    assert "minigpt.data.processes" not in children.stdout
    assert list((tmp_path / "out" / ".work").rglob("piece-000000.json"))


# --- a prepared folder as a corpus ---


def test_a_prepared_folder_is_a_corpus(jsonl: Path, tmp_path: Path) -> None:
    made = prepare(options(jsonl, "bpe", vocab_size=270), tmp_path / "out")
    opened = prepare_cached(options(tmp_path / "out", "bpe", vocab_size=270))
    assert (opened.folder, opened.fingerprint) == (made.folder, made.fingerprint)
    assert prepare_cached(options(tmp_path / "out"), tokenizer=made.tokenizer).folder == made.folder


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tokenizer": "byte"}, r"prepared with another tokenizer: bpe with 270 ids \(\w+\), asked for: byte with 257"),
        ({"tokenizer": "char"}, r"prepared with tokenizer=bpe \(asked for: char\)"),
        ({"vocab_size": 300}, r"prepared with vocab_size=270 \(asked for: 300\)"),
        ({"val_fraction": 0.2}, r"prepared with val_fraction=0.1 \(asked for: 0.2\)"),
        ({"split": "position"}, r"prepared with split=auto \(asked for: position\)"),
    ],
)
def test_options_that_contradict_a_prepared_folder(
    jsonl: Path, tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    prepare(options(jsonl, "bpe", vocab_size=270), tmp_path / "out")
    with pytest.raises(DataError, match=message):
        prepare_cached(options(tmp_path / "out", **{"tokenizer": "bpe", "vocab_size": 270, **asked}))


def test_a_tokenizer_that_contradicts_a_prepared_folder(jsonl: Path, tmp_path: Path) -> None:
    made = prepare(options(jsonl, "bpe", vocab_size=270), tmp_path / "out")
    with pytest.raises(
        DataError, match=r"prepared with another tokenizer: bpe with 270 ids \(\w+\), asked for: byte with"
    ):
        prepare_cached(options(made.folder), tokenizer=ByteTokenizer())


def test_a_prepared_folder_is_not_prepared_again(jsonl: Path, tmp_path: Path) -> None:
    made = prepare(options(jsonl), tmp_path / "out")
    with pytest.raises(DataError, match=r"out: prepared already; minigpt fit takes it as --data.corpus"):
        prepare(options(made.folder), tmp_path / "new")


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"ab", r"a.txt: too short: 1 token\(s\) for the train split \(val_fraction=0.1\), not 2"),
        (b"abcdefghij", r"a.txt: too short: 1 token\(s\) for the val split \(val_fraction=0.1\), not 2"),
        ("五".encode(), r"a.txt: too short: 0 token\(s\) for the train split"),
        (b"", "empty: it holds no text"),
        (b"\xef\xbb\xbf", "corpus .*a.txt: no text in it"),
        (b"text\0" * 100, "a.txt: binary, not text: a NUL byte at offset 4"),
        (b"caf\xe9" * 100, "a.txt: not UTF-8 text: byte 0xe9 at offset 3"),
    ],
)
def test_a_text_that_cannot_be_used(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(text)
    for _ in range(2):  # the second time is no different
        with pytest.raises(DataError, match=message) as caught:
            prepare(options(tmp_path / "a.txt"), tmp_path / "out")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_mistake_is_told_whatever_the_workers(large: Path, tmp_path: Path, workers: int) -> None:
    data = bytearray(large.read_bytes())
    data[9_000_000:9_000_001] = b"\0"
    data[1_000_000:1_000_001] = b"\xff"
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError, match="byte 0xff at offset 1000000"):
        prepare(options(tmp_path / "a.txt", workers=workers), tmp_path / "out")


def test_a_folder_that_is_not_ours_is_left_alone(jsonl: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match=r"out: holds other files \(thesis.txt, for one\)"):
        prepare(options(jsonl), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match=r"thesis.txt: a file, where a folder for the shards must be"):
        prepare(options(jsonl), tmp_path / "out" / "thesis.txt")


def test_a_folder_that_cannot_be_written(jsonl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/out: Not a directory, while preparing into .*file/out"):
        prepare(options(jsonl), tmp_path / "file" / "out")
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="Not a directory, while preparing into"):
        prepare_cached(options(jsonl))


FULL = """
import resource, sys
from pathlib import Path
from minigpt.data.pieces import PIECE_BYTES
from minigpt.data.prepare import PrepareOptions, prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
prepare(PrepareOptions(corpus=sys.argv[1], tokenizer="byte"), Path(sys.argv[2]))
"""


def test_a_disk_that_is_full_is_one_line_and_no_obstacle_later(large: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the same kind of error at the same place."""
    command = [sys.executable, "-c", FULL, str(large), str(tmp_path / "out")]
    errors = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    last = errors.splitlines()[-1]
    assert last.startswith(f"minigpt.errors.DataError: {tmp_path / 'out'}")
    assert "File too large, while preparing into" in last
    assert not list((tmp_path / "out").rglob("*.tmp-*"))
    assert prepare(options(large), tmp_path / "out").fingerprint == prepare(options(large), tmp_path / "n").fingerprint


def test_a_tokenizer_that_does_not_exist(jsonl: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer='bpee' is neither one of .*, did you mean bpe\?"):
        prepare(options(jsonl, "bpee"), tmp_path / "out")
    with pytest.raises(ConfigError, match="vocab_size=3"):
        options(jsonl, "bpe", vocab_size=3)


def test_characters_a_given_tokenizer_does_not_know(jsonl: Path, tmp_path: Path) -> None:
    tokenizer = train_tokenizer("char", ["document 0123456789"], 0, False)
    with pytest.raises(DataError, match=r"1 character\(s\) outside the vocabulary of .*'é'"):
        prepare(options(jsonl, "char"), tmp_path / "out", tokenizer=tokenizer)


def test_a_cache_of_another_format_is_made_anew(tmp_path: Path) -> None:
    """One folder that this version cannot read must not stop every run."""
    corpus = tmp_path / "c.txt"
    corpus.write_text("some text " * 100)
    options = PrepareOptions(corpus=str(corpus), tokenizer="byte")
    first = prepare_cached(options, cache=tmp_path / "cache")
    (first.folder / "index.json").write_text('{"format": "minigpt prepared text 0"}')
    assert prepare_cached(options, cache=tmp_path / "cache").fingerprint == first.fingerprint

"""How many tokens a corpus will have, before anything is prepared; nothing is written or downloaded."""

import re
from pathlib import Path
from typing import Any

import pytest

from minigpt.data import token_estimate as outlook
from minigpt.data.options import PrepareOptions
from minigpt.data.prepare import find_prepared, prepare, prepare_cached
from minigpt.data.token_estimate import bytes_per_token, look_ahead
from minigpt.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_an_estimate_first_and_a_count_once_it_is_prepared(tokenizer: str, corpus_file: Path, tmp_path: Path) -> None:
    options = PrepareOptions(corpus=str(corpus_file), tokenizer=tokenizer, vocab_size=300)
    guess = look_ahead(options)
    assert not guess.is_exact
    assert re.fullmatch(r"estimated at [\d.]+ bytes? a token from 20 kB", guess.source)
    assert not (tmp_path / "cache").exists()
    prepared = prepare_cached(options)
    count = look_ahead(options)
    assert count.is_exact
    assert (count.train_tokens, count.val_tokens) == (prepared.train.n_tokens, prepared.val.n_tokens)
    assert count.vocab_size == prepared.tokenizer.vocab_size
    assert 0 < (count.used_vocabulary or 0) <= count.vocab_size
    if tokenizer == "byte":
        assert count.used_vocabulary == len(set(corpus_file.read_bytes()[: count.train_tokens]))


def test_a_prepared_folder_stands_for_its_corpus(corpus_file: Path, tmp_path: Path) -> None:
    made = prepare(PrepareOptions(corpus=str(corpus_file), tokenizer="byte"), tmp_path / "made")
    found = look_ahead(PrepareOptions(corpus=str(tmp_path / "made"), tokenizer="byte"))
    assert (found.is_exact, found.train_tokens) == (True, made.train.n_tokens)


@pytest.mark.parametrize("asked", [{"tokenizer": "bpe"}, {"tokenizer": "byte", "val_fraction": 0.2}])
def test_a_prepared_folder_of_other_options_is_refused_as_fit_does(
    corpus_file: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    prepare(PrepareOptions(corpus=str(corpus_file), tokenizer="byte"), tmp_path / "made")
    options = PrepareOptions(corpus=str(tmp_path / "made"), **asked)
    with pytest.raises(DataError, match="made: prepared with") as refused:
        prepare_cached(options)
    with pytest.raises(DataError) as planned:
        look_ahead(options)
    assert str(planned.value) == str(refused.value)


def test_a_corpus_that_must_be_downloaded_first_is_known_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.data.named_corpora.urlopen", lambda *_, **__: pytest.fail("asked the network"))
    found = look_ahead(PrepareOptions(corpus="shakespeare", tokenizer="char"))
    assert found.train_tokens + found.val_tokens == 1_115_394
    assert found.vocab_size == 65


def test_a_tokenizer_that_is_not_here_is_estimated(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "nowhere")
    found = look_ahead(PrepareOptions(corpus=str(corpus_file), tokenizer="gpt2"))
    assert (found.is_exact, found.vocab_size) == (False, 50_257)


def test_a_large_corpus_is_not_read_to_look_for_it(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = PrepareOptions(corpus=str(corpus_file), tokenizer="byte")
    prepare_cached(options)
    monkeypatch.setattr(outlook, "_READ_AT_MOST", 1000)
    assert not look_ahead(options).is_exact


def test_no_corpus_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        look_ahead(PrepareOptions(corpus=str(tmp_path / "none"), tokenizer="byte"))


def test_an_edited_text_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one two three " * 50, encoding="utf-8")
    options = PrepareOptions(corpus=str(path), tokenizer="byte")
    assert find_prepared(options) is None
    prepared = prepare_cached(options)
    assert find_prepared(options) == prepared.folder
    path.write_text("one two four " * 50, encoding="utf-8")
    assert find_prepared(options) is None


def test_without_merges_a_token_is_a_byte() -> None:
    assert bytes_per_token("bpe", 257) == 1.0
    sizes = [bytes_per_token("bpe", vocab_size) for vocab_size in range(257, 520)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("vocab_size", "counted"), [(264, 1.16), (288, 1.38), (384, 1.80)])
def test_the_first_merges_weigh_most(vocab_size: int, counted: float) -> None:
    assert bytes_per_token("bpe", vocab_size) == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize(("vocab_size", "counted"), [(512, 2.15), (1024, 2.71), (4096, 3.60), (16384, 4.15)])
def test_the_curve_of_bytes_a_token_lies_near_what_was_counted(vocab_size: int, counted: float) -> None:
    assert bytes_per_token("bpe", vocab_size) == pytest.approx(counted, rel=0.1)

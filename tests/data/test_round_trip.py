"""Tokenizers that do not give their text back, and sound ones that put a space in front of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigpt.data.bpe import LibraryTokenizer, train_bpe
from minigpt.data.checks import check_round_trip
from minigpt.data.prepare import Prepared, PrepareOptions, prepare, prepare_cached
from minigpt.data.round_trip import Loss
from minigpt.data.token_estimate import look_ahead
from minigpt.errors import DataError

TEXT = " The Cat sat on the mat; \u00c9t\u00e9 and \ufb01ne weather.  Two  spaces \n" * 20
SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
LLAMA_SPACES = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "\u2581"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    ],
}


def byte_level(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json as `train_bpe` makes it, with some parts replaced."""
    return dict(json.loads(train_bpe([TEXT], 280).to_json())) | changes


def llama(*, byte_fallback: bool = True, **changes: Any) -> dict[str, Any]:
    """A tokenizer.json in the manner of Llama's: letters, a space in front, bytes for all else, `</s>` at the end."""
    letters = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdehinostw", "\u2581t", "he"]
    model = {
        "type": "BPE", "vocab": {token: index for index, token in enumerate(letters)},
        "merges": [["\u2581", "t"], ["h", "e"]], "byte_fallback": byte_fallback, "unk_token": "<unk>", "fuse_unk": True,
    }  # fmt: skip
    decoders = [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        *({"type": kind} for kind in ("ByteFallback", "Fuse")),
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {
        "version": "1.0",
        "added_tokens": [{"id": index, "content": name, **SPECIAL} for index, name in enumerate(letters[:2])],
        "normalizer": LLAMA_SPACES,
        "model": model,
        "decoder": {"type": "Sequence", "decoders": decoders},
        **changes,
    }


def wrapped_model(**changes: Any) -> dict[str, Any]:
    fields = byte_level()
    return fields | {"model": fields["model"] | changes}


LOSSY = {
    "lower-casing": byte_level(normalizer={"type": "Lowercase"}),
    "NFKC": byte_level(normalizer={"type": "NFKC"}),
    "strip": byte_level(normalizer={"type": "Strip", "strip_left": True, "strip_right": True}),
    "replace": byte_level(normalizer={"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}),
    "end of word": wrapped_model(end_of_word_suffix="</w>"),
    "whitespace": byte_level(
        pre_tokenizer={
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        }
    ),
    "unknown": llama(byte_fallback=False),
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "a.txt"


def saved(fields: dict[str, Any], folder: Path) -> str:
    (folder / "tokenizer.json").write_text(json.dumps(fields), encoding="utf-8")
    return str(folder / "tokenizer.json")


def tokens(prepared: Prepared, side: str) -> np.ndarray:
    return np.concatenate(getattr(prepared, side).shards)


@pytest.mark.parametrize("name", LOSSY)
def test_a_tokenizer_that_does_not_give_the_text_back_is_refused_with_what_it_loses(
    name: str, corpus: Path, tmp_path: Path
) -> None:
    options = PrepareOptions(corpus=str(corpus), tokenizer=saved(LOSSY[name], tmp_path))
    said = r"does not give the text of \S+a.txt back: in document \d, character \d+, '.*' comes back as '.*'; of the "
    for prepares in (lambda: prepare(options, tmp_path / "out"), lambda: prepare_cached(options)):
        with pytest.raises(DataError, match=said):
            prepares()
    for looks in (check_round_trip, look_ahead):
        with pytest.raises(DataError, match=said):
            looks(options)


@pytest.mark.parametrize("name", LOSSY)
def test_it_trains_if_the_user_insists_and_its_bytes_are_those_of_the_text(
    name: str, corpus: Path, tmp_path: Path
) -> None:
    options = PrepareOptions(corpus=str(corpus), tokenizer=saved(LOSSY[name], tmp_path), allow_lossy_tokenizer=True)
    prepared = prepare(options, tmp_path / "out")
    assert prepared.loss
    assert "bits per byte do not compare" in prepared.notes[-1]
    assert prepared.train.n_bytes + prepared.val.n_bytes == len(TEXT.encode())
    for side in ("train", "val"):
        split, correction = getattr(prepared, side), prepared.correction(side)
        scale = correction.scale if correction else 1.0
        counted = prepared.tokenizer.token_bytes()[tokens(prepared, side)].sum() - len(prepared.tokenizer.prefix)
        assert counted * scale == pytest.approx(split.n_bytes)
    with pytest.raises(DataError, match="does not give the text"):
        prepare_cached(PrepareOptions(corpus=str(tmp_path / "out"), tokenizer=options.tokenizer))


def test_what_was_done_before_a_loss_is_not_done_again(corpus: Path, tmp_path: Path) -> None:
    tokenizer, out = saved(LOSSY["lower-casing"], tmp_path), tmp_path / "out"
    options = PrepareOptions(corpus=str(corpus), tokenizer=tokenizer)
    with pytest.raises(DataError, match="does not give the text"):
        prepare(options, out)
    assert list(out.glob(".work/*/*.bin"))
    assert prepare(replace(options, allow_lossy_tokenizer=True), out).loss
    assert not list(out.glob(".work/*"))


def test_how_much_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "only small letters"}\n{"text": "The Cat"}\n{"text": "sat"}\n')
    tokenizer = saved(LOSSY["lower-casing"], tmp_path)
    options = PrepareOptions(
        corpus=str(tmp_path / "a.jsonl"), tokenizer=tokenizer, split="documents", allow_lossy_tokenizer=True
    )
    loss = prepare(options, tmp_path / "out").loss
    first = "in document 2, character 1, 'The Cat' comes back as 'the cat'"
    assert loss == Loss(documents=1, of_documents=3, lost_bytes=2, of_bytes=28, first=first)
    assert str(loss) == "7.1 % of the bytes, in 1 of 3 documents"


def test_unknown_characters_are_a_loss_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc" * 40)
    (tmp_path / "b.txt").write_text("abcx" * 40)
    known = PrepareOptions(corpus=str(tmp_path / "a.txt"), tokenizer="char", unknown=True)
    char = prepare(known, tmp_path / "a").tokenizer
    other = PrepareOptions(corpus=str(tmp_path / "b.txt"), tokenizer="char", unknown=True)
    with pytest.raises(DataError, match="it loses 25 % of the bytes"):
        prepare_cached(other, tokenizer=char)


@pytest.mark.parametrize("kind", ["llama", "metaspace", "byte level"])
@pytest.mark.parametrize(
    "documents", [["the cat", "het\u00e9", "a newline\nand  two spaces"] * 4, ["one document " * 20]]
)
def test_a_space_in_front_of_each_document_is_none_of_its_text(kind: str, documents: list[str], tmp_path: Path) -> None:
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    fields = {
        "llama": llama(),
        "metaspace": llama(normalizer=None, pre_tokenizer=metaspace),
        "byte level": byte_level(pre_tokenizer=level),
    }[kind]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    prepared = prepare(
        PrepareOptions(corpus=str(tmp_path / "a.jsonl"), tokenizer=saved(fields, tmp_path)), tmp_path / "o"
    )
    assert not prepared.loss
    tokenizer = prepared.tokenizer
    assert tokenizer.prefix == b" "
    assert tokenizer.decode_bytes(tokenizer.encode("the")) == b" the"
    for side in ("train", "val"):
        correction, ids = prepared.correction(side), tokens(prepared, side)
        assert correction is not None
        assert correction.scale == 1
        begins = np.concatenate([[True], ids[:-1] == tokenizer.end_of_text])  # the first of all is one, too
        counted = tokenizer.token_bytes()[ids].sum() - correction.prefix_bytes[ids[begins]].sum()
        assert counted == getattr(prepared, side).n_bytes


def test_nothing_is_put_into_the_midst_of_a_long_document() -> None:
    tokenizer = LibraryTokenizer(json.dumps(llama()))
    assert tokenizer.decode_bytes(tokenizer.encode_continuing("\nthe")) == b"\nthe"


def test_dropout_is_switched_off_and_said(corpus: Path, tmp_path: Path) -> None:
    fields = wrapped_model(dropout=0.5)
    tokenizer = LibraryTokenizer(json.dumps(fields), "t.json")
    assert tokenizer.notes == ("t.json: its BPE leaves out merges at random (dropout 0.5): switched off",)
    assert tokenizer.encode(TEXT) == LibraryTokenizer(json.dumps(byte_level())).encode(TEXT) == tokenizer.encode(TEXT)
    assert tokenizer.fingerprint == LibraryTokenizer(json.dumps(byte_level())).fingerprint
    prepared = prepare(PrepareOptions(corpus=str(corpus), tokenizer=saved(fields, tmp_path)), tmp_path / "out")
    assert "dropout 0.5" in prepared.notes[0]
    assert not prepared.loss


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_our_own_tokenizers_need_no_correction(tokenizer: str, corpus: Path, tmp_path: Path) -> None:
    prepared = prepare(PrepareOptions(corpus=str(corpus), tokenizer=tokenizer), tmp_path / "out")
    assert prepared.loss == Loss(of_documents=2, of_bytes=len(TEXT.encode()))  # a text parted by position is two
    assert prepared.correction("train") is prepared.correction("val") is None

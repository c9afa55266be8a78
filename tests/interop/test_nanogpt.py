"""nanoGPT's checkpoints against nanoGPT's formulas, and the characters in its meta.pkl."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_tokenizer

from minigpt.api import load
from minigpt.errors import CheckpointError, DataError, MinigptError
from minigpt.interop.foreign import build, largest_difference, write_foreign
from minigpt.interop.nanogpt import read_nanogpt

from .foreign import NANO_ARGS, Malicious, nano_checkpoint, tokens_for

CHARACTERS = "\n !,.abcdefghijklmnopqrstuvwxyzABCDEFGHIJK"[:41]


def meta_of(characters: str) -> dict:
    """As nanoGPT's prepare.py makes it."""
    chars = sorted(characters)
    return {
        "vocab_size": len(chars),
        "itos": dict(enumerate(chars)),
        "stoi": {character: index for index, character in enumerate(chars)},
    }


def write_meta(path: Path, content: object = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(meta_of(CHARACTERS) if content is None else content))
    return path


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_it_is_nanogpts_model(bias: bool, prefix: str, tmp_path: Path) -> None:
    reference = nano_checkpoint(tmp_path / "ckpt.pt", prefix, bias=bias)
    foreign = read_nanogpt(str(tmp_path / "ckpt.pt"))
    tokens = tokens_for(41)
    with torch.no_grad():
        expected = reference(tokens)
        _, relative = largest_difference(build(foreign)(tokens), expected)
    assert relative < 2e-6
    assert expected.abs().max() > 1
    config = foreign.config
    assert (config.bias, config.dropout, config.block_size, config.activation) == (bias, 0.2, 24, "gelu")
    assert (foreign.step, foreign.val_loss) == (5000, pytest.approx(1.4697))
    assert foreign.origin["dataset"] == "shakespeare_char"


def test_the_checkpoint_says_what_nanogpt_said(tmp_path: Path) -> None:
    nano_checkpoint(tmp_path / "ckpt.pt")
    write_meta(tmp_path / "meta.pkl")
    assert write_foreign(read_nanogpt(str(tmp_path / "ckpt.pt")), tmp_path / "a.ckpt", "the command") == 0
    loaded = load(tmp_path / "a.ckpt")
    checkpoint = loaded.checkpoint
    assert (checkpoint.step, checkpoint.val_loss) == (5000, pytest.approx(1.4697))
    assert checkpoint.provenance["command"] == "the command"
    assert checkpoint.provenance["source"] == str(tmp_path / "ckpt.pt")
    assert loaded.encode("cab") == [sorted(CHARACTERS).index(character) for character in "cab"]


@pytest.mark.parametrize("place", ["given", "beside", "data here", "data beside"])
def test_where_the_characters_are_found(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repo" / "out").mkdir(parents=True)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    ckpt = tmp_path / "repo" / "out" / "ckpt.pt"
    nano_checkpoint(ckpt)
    files = {
        "given": tmp_path / "elsewhere" / "m.pkl",
        "beside": ckpt.parent / "meta.pkl",
        "data here": tmp_path / "cwd" / "data" / "shakespeare_char" / "meta.pkl",
        "data beside": tmp_path / "repo" / "data" / "shakespeare_char" / "meta.pkl",
    }
    file = write_meta(files[place])
    foreign = read_nanogpt(str(ckpt), meta=str(file) if place == "given" else None)
    assert foreign.tokenizer.kind == "char"
    assert foreign.tokenizer.decode(range(41)) == "".join(sorted(CHARACTERS))
    assert not foreign.notes


def test_without_characters_it_reads_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nano_checkpoint(tmp_path / "ckpt.pt")
    foreign = read_nanogpt("ckpt.pt")
    assert foreign.tokenizer.kind == "ids"
    assert "give it as --meta" in foreign.notes[0]
    assert read_nanogpt("ckpt.pt", tokenizer="ids").notes == []


def test_a_large_vocabulary_is_gpt2s_where_that_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nano_checkpoint(tmp_path / "ckpt.pt", vocab_size=50304)
    stand_in = tiny_tokenizer("bpe")
    monkeypatch.setattr("minigpt.interop.nanogpt.gpt2_tokenizer", lambda: stand_in)
    assert read_nanogpt("ckpt.pt").tokenizer is stand_in

    def missing() -> None:
        raise DataError("tokenizer=gpt2 is not in this machine's cache")

    monkeypatch.setattr("minigpt.interop.nanogpt.gpt2_tokenizer", missing)
    foreign = read_nanogpt("ckpt.pt")
    assert (foreign.tokenizer.kind, foreign.tokenizer.vocab_size) == ("ids", 50304)
    assert "tokenizer=gpt2 is not in" in foreign.notes[0]


@pytest.mark.parametrize("loss", [None, 1e9, float("nan"), "low", torch.zeros(2)])
def test_a_loss_that_was_not_measured_is_none(loss: object, tmp_path: Path) -> None:
    nano_checkpoint(tmp_path / "ckpt.pt")
    content = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    torch.save(content | {"best_val_loss": loss}, tmp_path / "ckpt.pt")
    assert read_nanogpt(str(tmp_path / "ckpt.pt")).val_loss is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("model"), "is not a checkpoint of nanoGPT: it has no 'model'"),
        (lambda content: content.pop("model_args"), "it has no 'model_args'"),
        (lambda content: content["model_args"].pop("n_head"), "its model_args have no 'n_head'"),
        (lambda content: content["model_args"].update(n_head=5), "n_embd=32 must be divisible by n_head=5"),
        (lambda content: content["model_args"].update(bias=False), "which the config does not know"),
        (lambda content: content["model_args"].update(n_layer=3), r"lack 'transformer\.h\.2\.ln_1"),
        (lambda content: content["model"].update(a=3), "'a' among the weights is not a tensor under a name"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(change, message: str, tmp_path: Path) -> None:
    nano_checkpoint(tmp_path / "ckpt.pt")
    content = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match=message) as error:
        read_nanogpt(str(tmp_path / "ckpt.pt"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "needs the mappings `stoi` and `itos`"),
        ({"stoi": {}, "itos": {}}, "needs the mappings"),
        (meta_of("ab") | {"itos": {0: "b", 1: "a"}}, "its itos is not the inverse of its stoi"),
        ({"stoi": {"ab": 0}, "itos": {0: "ab"}}, "'ab': 0 in its stoi is not a character and its id"),
        ({"stoi": {"a": "0"}, "itos": {"0": "a"}}, "'a': '0' in its stoi is not"),
        ({"stoi": {"b": 0, "a": 1}, "itos": {0: "b", 1: "a"}}, "'a' has id 1, but ids must follow the order"),
        ({"stoi": {"a": 1}, "itos": {1: "a"}}, "'a' has id 1"),
        ({"stoi": {"\ud800": 0}, "itos": {0: "\ud800"}}, r"U\+D800"),
        (meta_of("".join(map(chr, range(200, 250)))), "has 50 tokens, more than the model's vocab_size=41"),
    ],
)
def test_a_meta_that_does_not_fit_is_one_line(content: object, message: str, tmp_path: Path) -> None:
    nano_checkpoint(tmp_path / "ckpt.pt")
    write_meta(tmp_path / "meta.pkl", content)
    with pytest.raises(MinigptError, match=message) as error:
        read_nanogpt(str(tmp_path / "ckpt.pt"))
    assert "\n" not in str(error.value)


def test_a_pickle_with_code_is_never_run(tmp_path: Path) -> None:
    nano_checkpoint(tmp_path / "ckpt.pt")
    write_meta(tmp_path / "meta.pkl", meta_of(CHARACTERS) | {"more": Malicious(tmp_path / "ran")})
    with pytest.raises(DataError, match="could run code, and nothing else of one is loaded"):
        read_nanogpt(str(tmp_path / "ckpt.pt"))
    torch.save({"model": Malicious(tmp_path / "ran"), "model_args": NANO_ARGS}, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match="pickled objects"):
        read_nanogpt(str(tmp_path / "ckpt.pt"))
    assert not (tmp_path / "ran").exists()
    pickle.loads((tmp_path / "meta.pkl").read_bytes())  # it would have been
    assert (tmp_path / "ran").exists()


def laughs(wrap: Callable[[Any], Any]) -> Any:
    """Two of two of two ... of the same: small in a file, and 2^60 parts long for whoever writes it out."""
    value: Any = 1
    for _ in range(60):
        value = wrap(value)
    return value


LAUGHS = {"lists": lambda value: [value, value], "tuples": lambda value: (value, value), "maps": lambda v: {0: v, 1: v}}


@pytest.mark.parametrize("kind", LAUGHS)
def test_a_value_that_is_shared_without_end_is_one_line(kind: str, tmp_path: Path) -> None:
    """At each place whose value a message would like to show."""
    bad = laughs(LAUGHS[kind])
    meta = meta_of(CHARACTERS)
    nano_checkpoint(tmp_path / "ckpt.pt")
    content = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    for change in ({"stoi": {**meta["stoi"], "a": bad}}, {"itos": {**meta["itos"], 3: bad}}, {"stoi": bad}):
        write_meta(tmp_path / "meta.pkl", meta | change)
        with pytest.raises(DataError) as error:
            read_nanogpt(str(tmp_path / "ckpt.pt"), meta=str(tmp_path / "meta.pkl"))
        assert len(str(error.value)) < 500
    for name in ("n_layer", "bias", "dropout"):
        torch.save(content | {"model_args": content["model_args"] | {name: bad}}, tmp_path / "bad.pt")
        with pytest.raises(CheckpointError, match=f"model_args: {name}=") as refusal:
            read_nanogpt(str(tmp_path / "bad.pt"))
        assert len(str(refusal.value)) < 500

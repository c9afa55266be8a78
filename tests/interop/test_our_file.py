"""One safetensors file under our own names, there and back."""

import json
from pathlib import Path

import pytest
import torch
from helpers import random_gpt, tiny_config, tiny_tokenizer, write_checkpoint
from safetensors import safe_open
from safetensors.torch import save_file

from minigpt.checkpoint import read_checkpoint
from minigpt.errors import CheckpointError
from minigpt.interop.our_file import export_file, read_file


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("byte", {}),
        ("char", {"tie_embeddings": False, "position": "alibi", "qk_norm": True}),
        ("bpe", {"bias": False, "position": "sinusoidal", "norm_placement": "post", "norm_eps": 1e-3}),
    ],
)
def test_there_and_back_is_the_same_model(kind: str, settings: dict, tmp_path: Path) -> None:
    """Whatever the settings: every model can be written like this."""
    tokenizer = tiny_tokenizer(kind)
    data = {"corpus": "text.txt"}
    model = write_checkpoint(
        tmp_path / "a.ckpt", tiny_config(tokenizer.vocab_size, **settings), tokenizer, data=data, data_fingerprint="f"
    )
    assert export_file(model, read_checkpoint(tmp_path / "a.ckpt"), tmp_path / "a.safetensors") == 0
    foreign = read_file(str(tmp_path / "a.safetensors"))
    assert foreign.config == model.config
    assert foreign.tokenizer.fingerprint == tokenizer.fingerprint
    assert all(torch.equal(foreign.weights[name], value) for name, value in model.state_dict().items())
    assert foreign.weights.keys() == model.state_dict().keys()
    assert (foreign.step, foreign.val_loss, foreign.data, foreign.data_fingerprint) == (100, 1.5, data, "f")
    assert foreign.origin["exported_from"] == {"command": "test"}


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "a.ckpt", tiny_config(), tiny_tokenizer("byte"))
    export_file(model, read_checkpoint(tmp_path / "a.ckpt"), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert set(file.keys()) == model.state_dict().keys() - {"head.weight"}
        metadata = file.metadata()
    assert json.loads(metadata["config"]) == model.config.to_dict()
    assert json.loads(metadata["tokenizer"]) == {"minigpt_tokenizer": "byte"}


def broken(change, path: Path) -> None:
    """An export with its weights and metadata changed."""
    model = random_gpt(tiny_config())
    weights = {name: value for name, value in model.state_dict().items() if name != "head.weight"}
    metadata = {
        "config": json.dumps(model.config.to_dict()),
        "tokenizer": tiny_tokenizer("byte").to_json(),
        "facts": json.dumps(
            {"format": 2, "step": 1, "val_loss": None, "data": {}, "data_fingerprint": "", "provenance": {}}
        ),
    }
    change(weights, metadata)
    save_file(weights, path, metadata=metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights, metadata: metadata.pop("facts"), "is no export of minigpt: its metadata has no 'facts'"),
        (lambda weights, metadata: metadata.update(config="{"), "its metadata are not JSON"),
        (lambda weights, metadata: metadata.update(config="[]"), "must be mappings, not a list"),
        (lambda weights, metadata: metadata.update(config='{"n_head": 3}'), "vocab_size is missing"),
        (lambda weights, metadata: metadata.update(tokenizer="x"), "not a tokenizer file"),
        (lambda weights, metadata: metadata.update(facts='{"format": 1}'), "has format 1, this minigpt reads format 2"),
        (lambda weights, metadata: metadata.update(facts='{"format": 2}'), "'step' in its metadata is missing"),
        (
            lambda weights, metadata: metadata.update(tokenizer='{"minigpt_tokenizer": "ids", "vocab_size": 300}'),
            "has 300 tokens, more than the model's vocab_size=257",
        ),
        (lambda weights, metadata: weights.pop("position.weight"), "the weights lack 'position.weight'"),
        (lambda weights, metadata: weights.update(x=torch.zeros(1)), "have an unknown 'x'"),
        (lambda weights, metadata: weights.update({"position.weight": torch.zeros(3)}), r"has shape \(3,\)"),
    ],
)
def test_what_is_not_ours_is_one_line(change, message: str, tmp_path: Path) -> None:
    broken(lambda weights, metadata: None, tmp_path / "good.safetensors")
    assert read_file(str(tmp_path / "good.safetensors")).step == 1
    broken(change, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=message) as error:
        read_file(str(tmp_path / "a.safetensors"))
    assert "\n" not in str(error.value)


def test_a_damaged_or_missing_file_is_one_line(tmp_path: Path) -> None:
    broken(lambda weights, metadata: None, tmp_path / "a.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    for content in (b"", whole[:100], whole[:-1]):
        (tmp_path / "a.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read as safetensors") as error:
            read_file(str(tmp_path / "a.safetensors"))
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="no such file"):
        read_file(str(tmp_path / "gone.safetensors"))

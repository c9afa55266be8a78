"""One safetensors file under our own names, there and back."""

import json
import math
from pathlib import Path

import pytest
import torch
from helpers import checkpoint_content, random_gpt, tiny_config, tiny_tokenizer, write_checkpoint
from safetensors import safe_open
from safetensors.torch import save_file

from minigpt.errors import CheckpointError
from minigpt.interop.our_file import export_file, read_file
from minigpt.interop.weight_files import read_safetensors, write_safetensors
from minigpt.runs.checkpoint import build_model, read_checkpoint


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
    assert export_file(model, read_checkpoint(tmp_path / "a.ckpt"), tmp_path / "a.safetensors") == (0, [])
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
        (
            lambda weights, metadata: metadata.update(facts=metadata["facts"].replace("null", "1" + 400 * "0")),
            "'val_loss' in its metadata is no finite number",
        ),
        (
            lambda weights, metadata: metadata.update(
                config=json.dumps({"vocab_size": 257, "n_layer": 1, "n_embd": 2**80})
            ),
            "no weights can have these sizes",
        ),
        (lambda weights, metadata: metadata.update(tokenizer="x"), "not a tokenizer file"),
        (lambda weights, metadata: metadata.update(facts='{"format": 1}'), "has format 1, this minigpt reads format 2"),
        (lambda weights, metadata: metadata.update(facts='{"format": 2}'), "'step' in its metadata is missing"),
        (
            lambda weights, metadata: metadata.update(tokenizer='{"minigpt_tokenizer": "ids", "vocab_size": 300}'),
            "has 300 tokens, more than the model's vocab_size=257",
        ),
        (lambda weights, metadata: weights.pop("position.weight"), "the weights lack 'position.weight'"),
        (
            lambda weights, metadata: weights.update({"position.weight": torch.zeros(16, 16, dtype=torch.int8)}),
            r"weight 'position.weight' is torch\.int8: quantised",
        ),
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


def test_what_the_system_refuses_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*/no/a\.safetensors: No such file or directory$"):
        write_safetensors(tmp_path / "no" / "a.safetensors", {"a": torch.zeros(1)}, {})

    def denied(self: Path, mode: str) -> None:  # whoever runs the tests may be allowed everything
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors: Permission denied"):
        read_safetensors(tmp_path / "a.safetensors")


def test_facts_that_json_has_no_words_for_are_left_out_and_told(tmp_path: Path) -> None:
    """Whatever a checkpoint says of where it comes from: the file holds JSON, and reads again."""
    tokenizer = tiny_tokenizer("byte")
    content = checkpoint_content(random_gpt(tiny_config()), tokenizer, val_loss=math.nan)
    shared: list = [1]
    for _ in range(60):
        shared = [shared, shared]
    good = {"command": "test", "deep": {"list": [1, "a", None, True, 0.5]}}
    bad = {"tensor": torch.zeros(2), "nan": math.nan, "large": 10**30, 3: "x", "bytes": b"x"}
    content["minigpt"]["provenance"] = {**good, **bad, "inside": [1, {"t": torch.ones(1)}, (2, 3)]}
    torch.save(content, tmp_path / "a.ckpt")
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    difference, notes = export_file(build_model(checkpoint), checkpoint, tmp_path / "a.safetensors")
    assert difference == 0
    assert notes == ["left out, as JSON has no words for it: val_loss, provenance.tensor, provenance.nan and 4 more"]
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["facts"], parse_constant=pytest.fail)
    assert facts["provenance"] == {**good, "inside": [1, {}, [2, 3]]}
    foreign = read_file(str(tmp_path / "a.safetensors"))
    assert (foreign.val_loss, foreign.origin["exported_from"]) == (None, facts["provenance"])

    content["minigpt"]["provenance"] = {"shared": shared}
    torch.save(content, tmp_path / "a.ckpt")
    checkpoint = read_checkpoint(tmp_path / "a.ckpt")
    _, [note] = export_file(build_model(checkpoint), checkpoint, tmp_path / "b.safetensors")
    assert len(note) < 1000
    assert (tmp_path / "b.safetensors").stat().st_size < 1_000_000
    read_file(str(tmp_path / "b.safetensors"))

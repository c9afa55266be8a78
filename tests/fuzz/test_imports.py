"""Models from elsewhere with anything in their files: they are imported, or one line says why not."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_gpt, tiny_config, tiny_tokenizer, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from interop.foreign import nano_checkpoint
from safetensors import safe_open
from safetensors.torch import save_file

from .configs import odd, spoilt_bytes
from .outcome import check_ending, check_nothing_half_written, more, run
from .test_bytes import altered

HUGE = st.sampled_from([2**31, 2**40, 2**63, 10**30, -(10**30), 1e300])
"""Sizes that no tensor has, and whole numbers that torch cannot take."""
odd_values = st.one_of(odd, HUGE)
odd_weights = st.sampled_from([
    torch.zeros(0), torch.zeros(3), torch.zeros(2, 2).to_sparse(), torch.empty(3, device="meta"),
    torch.ones(2, dtype=torch.int8), torch.zeros(1, 1).expand(10**6, 10**6), torch.full((41, 32), torch.nan),
])  # fmt: skip


def imported(form: str, source: str, *more_words: str) -> None:
    """`minigpt import`; what it wrote is generated from and exported again."""
    Path("a.ckpt").unlink(missing_ok=True)
    outcome = run(["import", "--format", form, "--source", source, "--out", "a.ckpt", *more_words])
    check_ending(outcome)
    check_nothing_half_written(Path.cwd())
    assert (outcome.code == 0) == Path("a.ckpt").exists()
    if outcome.code == 0:
        check_ending(run(["generate", "a.ckpt", "--prompt", "1", "--greedy", "--max_new_tokens", "2"]))
        check_ending(run(["export", "a.ckpt", "--format", "safetensors", "--out", "again.safetensors", "--overwrite"]))


@pytest.fixture
def exported(inside: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our own export, as a folder and as a file; without `transformers`, which is not what is tested here."""
    monkeypatch.setattr("minigpt.interop.reference.is_installed", lambda: False)
    monkeypatch.setattr("minigpt.interop.hf.is_installed", lambda: False)
    tokenizer = tiny_tokenizer("bpe")
    write_checkpoint(Path("good.ckpt"), random_gpt(tiny_config(tokenizer.vocab_size, n_layer=1)), tokenizer)
    for form, out in (("hf", "good"), ("safetensors", "good.safetensors")):
        assert run(["export", "good.ckpt", "--format", form, "--out", out]).code == 0
    return inside


@settings(max_examples=more(2))
@given(data=st.data())
def test_a_folder_with_odd_json(exported: Path, data: st.DataObject) -> None:
    shutil.rmtree("bad", ignore_errors=True)
    shutil.copytree("good", "bad")
    name = data.draw(st.sampled_from(sorted(path.name for path in Path("good").glob("*.json"))))
    content = json.loads(Path("good", name).read_text())
    Path("bad", name).write_text(json.dumps(data.draw(altered(content, odd_values)), default=str))
    imported("hf", "bad")


@settings(max_examples=more(1))
@given(data=st.data())
def test_a_folder_with_spoilt_bytes(exported: Path, data: st.DataObject) -> None:
    shutil.rmtree("bad", ignore_errors=True)
    shutil.copytree("good", "bad")
    name = data.draw(st.sampled_from(sorted(path.name for path in Path("good").iterdir())))
    Path("bad", name).write_bytes(data.draw(spoilt_bytes(Path("good", name).read_bytes())))
    imported("hf", "bad")


@settings(max_examples=more(2))
@given(data=st.data())
def test_an_export_with_odd_metadata(exported: Path, data: st.DataObject) -> None:
    with safe_open("good.safetensors", framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    name = data.draw(st.sampled_from(sorted(metadata.keys() - {"format"})))
    value = data.draw(altered(json.loads(metadata[name]), odd_values))
    save_file(weights, "bad.safetensors", metadata=metadata | {name: json.dumps(value, default=str)})
    imported("safetensors", "bad.safetensors")


@settings(max_examples=more(2))
@given(data=st.data())
def test_a_checkpoint_of_nanogpt_with_odd_contents(inside: Path, data: st.DataObject) -> None:
    nano_checkpoint(Path("ckpt.pt"))
    good: dict[str, Any] = torch.load("ckpt.pt", weights_only=True)
    part = data.draw(st.sampled_from(["", "model", "model_args", "config"]))
    kept = st.one_of(odd_values, odd_weights)
    bad = data.draw(altered(good[part] if part else good, kept))
    torch.save(good | {part: bad} if part else bad, "bad.pt")
    imported("nanogpt", "bad.pt", "--tokenizer", "ids")


@settings(max_examples=more(1))
@given(data=st.data())
def test_a_meta_with_odd_contents(inside: Path, data: st.DataObject) -> None:
    nano_checkpoint(Path("ckpt.pt"))
    letters = sorted("abcdefghijklmnopqrstuvwxyz \n.,!ABCDEFGHIJ")
    meta = {"itos": dict(enumerate(letters)), "stoi": {letter: index for index, letter in enumerate(letters)}}
    whole = pickle.dumps(data.draw(altered(meta, odd_values)))
    Path("m.pkl").write_bytes(data.draw(st.one_of(st.just(whole), spoilt_bytes(whole))))
    imported("nanogpt", "ckpt.pt", "--meta", "m.pkl")

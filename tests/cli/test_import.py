"""`minigpt import`: what comes from elsewhere is generated from, validated and loaded like a checkpoint of our own."""

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from helpers import random_gpt, tiny_config, tiny_tokenizer, write_checkpoint
from interop.foreign import gpt2, llama, nano_checkpoint, save, tokens_for

from minigpt.api import load
from minigpt.cli.main import main
from minigpt.interop.foreign import largest_difference


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and error line; nothing else is said, and no file is left."""
    before = sorted(Path.cwd().iterdir())
    code = main(["import", *words])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("minigpt: error: ")
    assert sorted(Path.cwd().iterdir()) == before
    return code, captured.err


@pytest.mark.parametrize("make", [gpt2, llama])
def test_hf_end_to_end(make, capsys: pytest.CaptureFixture[str]) -> None:
    reference = make(vocab_size=300)
    save(reference, Path("model"))
    Path("model/tokenizer.json").write_text(tiny_tokenizer("bpe").to_json())
    capsys.readouterr()  # transformers shows a bar while it saves
    assert main(["import", "--format", "hf", "--source", "model", "--out", "new/a.ckpt"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert "largest difference of the logits on 4 x 16 random tokens: 0" in lines
    [compared] = [line for line in lines if "from transformers" in line]
    assert float(compared.rpartition(" ")[2]) < 1e-4
    loaded = load("new/a.ckpt")
    tokens = tokens_for(300)
    with torch.no_grad():
        _, relative = largest_difference(loaded.model(tokens), reference(tokens).logits)
    assert relative < 2e-6
    provenance = loaded.checkpoint.provenance
    assert provenance["command"] == "minigpt import --format hf --source model --out new/a.ckpt"
    assert (provenance["source"], provenance["model_type"]) == ("model", reference.config.model_type)
    assert (loaded.checkpoint.step, loaded.checkpoint.val_loss, loaded.checkpoint.resumable) == (0, None, False)

    assert main(["generate", "new/a.ckpt", "--prompt", "The", "--greedy", "--max_new_tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("The")
    Path("text.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 40)
    assert main(["validate", "new/a.ckpt", "--data.corpus", "text.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] > 0


def test_a_model_without_a_tokenizer_runs_on_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    save(gpt2(), Path("model"))
    assert main(["import", "--format", "hf", "--source", "model", "--out", "a.ckpt"]) == 0
    note = capsys.readouterr().err
    assert note.startswith("minigpt: note: ")
    assert note.count("\n") == 1
    assert main(["generate", "a.ckpt", "--prompt", "17 4 ", "--greedy", "--max_new_tokens", "3"]) == 0
    words = capsys.readouterr().out.split()
    assert words[:2] == ["17", "4"]
    assert len(words) == 5
    Path("ids.txt").write_text(" ".join(str(i * i % 41) for i in range(400)))
    assert main(["validate", "a.ckpt", "--data.corpus", "ids.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_tokens"] > 30
    assert main(["generate", "a.ckpt", "--prompt", "hello"]) == 1
    assert "the text holds 'hello'" in capsys.readouterr().err


def test_nanogpt_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    nano_checkpoint(Path("ckpt.pt"), "_orig_mod.", bias=False)
    characters = sorted("abcdefghijklmnopqrstuvwxyz \n.,!ABCDEFGHIJ")
    meta = {"itos": dict(enumerate(characters)), "stoi": {c: i for i, c in enumerate(characters)}}
    Path("m.pkl").write_bytes(pickle.dumps(meta))
    words = ["import", "--format", "nanogpt", "--source", "ckpt.pt", "--out", "a.ckpt"]
    assert main([*words, "--meta", "m.pkl"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "tokenizer   char, 41 tokens" in captured.out
    loaded = load("a.ckpt")
    assert loaded.checkpoint.step == 5000
    assert loaded.generate("abc", greedy=True, max_new_tokens=4).startswith("abc")
    assert main([*words, "--tokenizer", "ids", "--overwrite"]) == 0
    assert load("a.ckpt").tokenizer.kind == "ids"


def test_safetensors_are_the_inverse_of_the_export(capsys: pytest.CaptureFixture[str]) -> None:
    model = write_checkpoint(Path("a.ckpt"), random_gpt(tiny_config(position="alibi")), tiny_tokenizer("byte"))
    assert main(["export", "a.ckpt", "--format", "safetensors", "--out", "a.safetensors"]) == 0
    assert main(["import", "--format", "safetensors", "--source", "a.safetensors", "--out", "b.ckpt"]) == 0
    loaded = load("b.ckpt")
    assert loaded.config == model.config
    assert all(torch.equal(loaded.model.state_dict()[name], value) for name, value in model.state_dict().items())
    assert loaded.checkpoint.provenance["exported_from"] == {"command": "test"}


def test_refusals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    save(gpt2(), Path("model"))
    Path("there.ckpt").write_text("precious")
    hf = ["--format", "hf", "--source", "model"]
    for words, code, message in [
        ([*hf, "--out", "there.ckpt"], 2, "there.ckpt exists: give another --out, or --overwrite"),
        ([*hf, "--out", "model"], 2, "model is a folder: --out must be a file"),
        ([*hf, "--out", "a.ckpt", "--meta", "m.pkl"], 2, "--meta is for --format nanogpt"),
        ([*hf, "--out", "a.ckpt", "--tokenizer", "byte"], 1, "has 257 tokens, more than the model's vocab_size=41"),
        ([*hf, "--out", "a.ckpt", "--tokenizer", "char"], 2, "tokenizer=char is made from a corpus"),
        ([*hf, "--out", "a.ckpt", "--tokeniser", "byte"], 2, "did you mean --tokenizer?"),
        (["--format", "hff", "--source", "model", "--out", "a.ckpt"], 2, "invalid choice: 'hff'"),
        (["--format", "hf", "--out", "a.ckpt"], 2, "--source"),
        (
            ["--format", "nanogpt", "--source", "model", "--out", "a.ckpt"],
            1,
            "model is a folder: --format nanogpt takes",
        ),
        (["--format", "safetensors", "--source", "model", "--out", "a.ckpt"], 1, "model is a folder"),
        (["--format", "nanogpt", "--source", "there.ckpt", "--out", "there.ckpt", "--overwrite"], 2, "is not replaced"),
        (["--format", "nanogpt", "--source", "model/model.safetensors", "--out", "a"], 1, "is not a checkpoint of"),
        (["--format", "nanogpt", "--source", "gone.pt", "--out", "a.ckpt"], 1, "gone.pt: no such file"),
        (
            ["--format", "nanogpt", "--source", "there.ckpt", "--out", "a.ckpt"],
            1,
            "loaded: it is no file that torch.save writes",
        ),
        (["--format", "safetensors", "--source", "model/model.safetensors", "--out", "a"], 1, "with --format hf"),
        (["--format", "hf", "--source", "no/such/folder", "--out", "a.ckpt"], 1, "no such folder"),
        (
            ["--format", "nanogpt", "--source", "x", "--out", "a", "--meta", "m", "--tokenizer", "byte"],
            2,
            "--meta and --tokenizer both name the tokenizer",
        ),
    ]:
        found, error = refusal(capsys, *words)
        assert (found, message in error) == (code, True), error
    assert Path("there.ckpt").read_text() == "precious"
    code, error = refusal(capsys, *hf, "--out", "there.ckpt", "--overwrite")
    assert (code, "there.ckpt is not replaced: this command did not write it" in error) == (2, True)
    assert Path("there.ckpt").read_text() == "precious"
    write_checkpoint(Path("runs/base/checkpoints/best.ckpt"), random_gpt(tiny_config()), tiny_tokenizer("byte"))
    code, error = refusal(capsys, *hf, "--out", "runs/base/checkpoints/best.ckpt", "--overwrite")
    assert (code, "best.ckpt is not replaced: it is a file of a run" in error) == (2, True)
    write_checkpoint(Path("ours.ckpt"), random_gpt(tiny_config()), tiny_tokenizer("byte"))
    before = Path("ours.ckpt").read_bytes()
    save(gpt2(), Path("model"), model_type="mistral")
    code, error = refusal(capsys, *hf, "--out", "ours.ckpt", "--overwrite")
    assert (code, "model_type='mistral'" in error) == (1, True)
    assert Path("ours.ckpt").read_bytes() == before


def test_without_transformers_it_compares_with_what_was_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(gpt2(), Path("model"))
    monkeypatch.setattr("minigpt.interop.reference.is_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["import", "--format", "hf", "--source", "model", "--out", "a.ckpt"]) == 0
    out = capsys.readouterr().out
    assert "largest difference of the logits on 4 x 16 random tokens: 0" in out
    assert "from transformers" not in out

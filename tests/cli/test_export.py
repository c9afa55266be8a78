"""`minigpt export`: folders that `transformers` opens, files of safetensors, and nothing half-written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import random_gpt, tiny_config, tiny_tokenizer, write_checkpoint
from interop.foreign import transformers

from minigpt.api import load
from minigpt.cli.main import main

RUN = Path("runs/base/checkpoints")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """runs/base, of base.yaml's kinds: learned positions, layernorm, pre-norm, gelu, tied, with biases."""
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny_tokenizer("bpe")
    for name, seed in (("best.ckpt", 1), ("step=00000100.ckpt", 2)):
        write_checkpoint(RUN / name, random_gpt(tiny_config(tokenizer.vocab_size), seed), tokenizer)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and error line; nothing else is said, and nothing is left."""
    before = sorted(Path.cwd().iterdir())
    code = main(["export", *words])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("minigpt: error: ")
    assert sorted(Path.cwd().iterdir()) == before
    return code, captured.err


def test_hf_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "base", "--format", "hf", "--out", "new/hf"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[:2] == ["family      GPT-2", "largest difference of the logits on 4 x 16 random tokens: 0"]
    assert float(lines[2].rpartition(" ")[2]) < 1e-4
    assert lines[3] == "written to new/hf from runs/base/checkpoints/best.ckpt (step 100)"
    assert sorted(path.name for path in Path("new/hf").iterdir()) == [
        "config.json", "generation_config.json", "minigpt_tokenizer.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    assert [path.name for path in Path("new").iterdir()] == ["hf"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained("new/hf")
    words = transformers.AutoTokenizer.from_pretrained("new/hf")
    ours = load("base")
    encoded = words("The quick brown", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(theirs(**encoded).logits, ours.model(torch.tensor([ours.encode("The quick brown")])))
    assert main(["import", "--format", "hf", "--source", "new/hf", "--out", "again.ckpt"]) == 0
    again = load("again.ckpt")
    assert again.tokenizer.fingerprint == ours.tokenizer.fingerprint
    assert again.config == ours.config.from_dict(ours.config.to_dict())
    assert all(torch.equal(again.model.state_dict()[name], value) for name, value in ours.model.state_dict().items())


def test_which_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "base", "--format", "safetensors", "--out", "last.safetensors", "--prefer", "last"]) == 0
    assert main(["import", "--format", "safetensors", "--source", "last.safetensors", "--out", "last.ckpt"]) == 0
    last = load("base", prefer="last").model.state_dict()
    assert all(torch.equal(load("last.ckpt").model.state_dict()[name], value) for name, value in last.items())


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(Path("a.ckpt"), random_gpt(tiny_config(bias=False)), tiny_tokenizer("byte"))
    assert main(["export", "a.ckpt", "--format", "hf", "--out", "hf"]) == 0
    assert capsys.readouterr().err == "minigpt: note: bias=false: a GPT-2 has biases, and gets 13 that are zero\n"


def test_what_is_there_stays_unless_it_is_an_export(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes").mkdir()
    Path("notes/thesis.tex").write_text("years of work")
    Path("file").write_text("precious")
    hf, flat = ["base", "--format", "hf", "--out"], ["base", "--format", "safetensors", "--out"]
    for words, message in [
        ([*hf, "notes"], "notes exists: give another --out, or --overwrite"),
        ([*hf, "notes", "--overwrite"], "is not replaced: it holds thesis.tex, which no export writes"),
        ([*hf, "file", "--overwrite"], "file is a file: --out must be a folder"),
        ([*flat, "file"], "file exists: give another --out, or --overwrite"),
        ([*flat, "file", "--overwrite"], "file is not replaced: this command did not write it"),
        ([*flat, "notes", "--overwrite"], "notes is a folder: --out must be a file"),
        ([*hf, ".", "--overwrite"], "is not replaced"),
    ]:
        code, error = refusal(capsys, *words)
        assert (code, message in error) == (2, True), error
    assert Path("notes/thesis.tex").read_text() == "years of work"
    assert Path("file").read_text() == "precious"
    Path("empty").touch()
    for _ in range(2):  # the second replaces what the first wrote
        assert main(["export", *flat, "empty", "--overwrite"]) == 0
    assert main(["export", *hf, "hf"]) == 0
    assert main(["export", *hf, "hf", "--overwrite"]) == 0
    assert not list(Path.cwd().glob(".*"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "more").touch(), "it holds more, which no export writes"),
        (lambda folder: (folder / "sub").mkdir(), "it holds sub, which no export writes"),
        (lambda folder: (folder / "config.json").unlink(), "it lacks config.json, so no export wrote it"),
        (lambda folder: (folder / "minigpt_tokenizer.json").unlink(), "it lacks minigpt_tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 50), "lacks the mark of an export"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0[]"), "lacks the mark"),
        (
            lambda folder: transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder),
            "its model.safetensors lacks the mark of an export, so another program wrote it",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink() or (folder / "tokenizer.json").symlink_to("x"), "holds"),
    ],
)
def test_a_folder_that_is_not_as_an_export_left_it_stays(
    spoil: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program's model, or ours with somebody's work on it."""
    words = ["base", "--format", "hf", "--out", "hf"]
    assert main(["export", *words]) == 0
    spoil(Path("hf"))
    capsys.readouterr()
    before = {path.name: path.is_file() and path.read_bytes() for path in Path("hf").iterdir()}
    code, error = refusal(capsys, *words, "--overwrite")
    assert (code, message in error) == (2, True), error
    assert {path.name: path.is_file() and path.read_bytes() for path in Path("hf").iterdir()} == before


def test_a_folder_lost_to_a_kill_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Between the two renames of a replacement the folder has another name."""
    words = ["export", "base", "--format", "hf", "--out", "hf"]
    assert main(words) == 0
    before = {path.name: path.read_bytes() for path in Path("hf").iterdir()}
    killed_between = (
        "import os, sys; from pathlib import Path; from minigpt.cli.main import main; rename = Path.rename\n"
        "Path.rename = lambda path, target: os._exit(9) if '.new-' in path.name else rename(path, target)\n"
        "main(sys.argv[1:])"
    )
    killed = subprocess.run([sys.executable, "-c", killed_between, *words, "--overwrite"], check=False)
    assert killed.returncode == 9
    assert not Path("hf").exists()
    capsys.readouterr()
    assert main(words) == 2
    assert "hf exists" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path("hf").iterdir()} == before
    assert not list(Path.cwd().glob(".*"))


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(Path("alibi.ckpt"), random_gpt(tiny_config(position="alibi")), tiny_tokenizer("byte"))
    for words, code, message in [
        (
            ["alibi.ckpt", "--format", "hf", "--out", "x"],
            2,
            "neither GPT-2 (position=alibi is not learned) nor",
        ),
        (["bese", "--format", "hf", "--out", "x"], 1, "did you mean base?"),
        (["base", "--format", "onnx", "--out", "x"], 2, "invalid choice: 'onnx'"),
        (["base", "--format", "hf"], 2, "--out"),
    ]:
        found, error = refusal(capsys, *words)
        assert (found, message in error) == (code, True), error


def test_a_failed_replacement_leaves_the_old_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["export", "base", "--format", "hf", "--out", "hf"]) == 0
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in Path("hf").iterdir()}
    monkeypatch.setattr("minigpt.interop.hf.random_logits", lambda model, config: torch.full((1, 1), torch.nan))
    code, error = refusal(capsys, "base", "--format", "hf", "--out", "hf", "--overwrite")
    assert (code, "not finite numbers" in error) == (1, True)
    assert {path.name: path.read_bytes() for path in Path("hf").iterdir()} == before


@pytest.mark.parametrize(("form", "name"), [("safetensors", "a.safetensors"), ("hf", "hf")])
def test_a_place_that_cannot_be_written_is_named_as_it_was_given(
    form: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the temporary file beside it, which is gone."""

    def full(tensors: object, path: Path, metadata: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("safetensors.torch.save_file", full)
    code, error = refusal(capsys, "base", "--format", form, "--out", name)
    assert (code, "cannot write" in error, ".tmp-" in error, ".new-" in error) == (1, True, False, False), error
    assert str(Path(name).resolve()) in error


def test_what_is_read_is_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    best = str(RUN / "best.ckpt")
    for words in (["base"], [best]):
        code, error = refusal(capsys, *words, "--format", "safetensors", "--out", best, "--overwrite")
        assert (code, "best.ckpt is not replaced" in error) == (2, True), error
    assert load("base").checkpoint.step == 100


def test_a_device_is_never_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    code, error = refusal(capsys, "base", "--format", "safetensors", "--out", "pipe", "--overwrite")
    assert (code, "pipe is a device or a pipe: --out must be a file" in error) == (2, True), error

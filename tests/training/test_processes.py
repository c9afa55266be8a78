"""Two processes train what one does: the same global batches, one run folder, one checkpoint, one curve."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt.cli.main import main
from minigpt.lab.replay import replay
from minigpt.runs.divergence_snapshot import read_snapshot
from minigpt.runs.metrics_csv import read_metrics

from .tiny import checkpoint, curve


def train(root: Path, corpus: Path, *words: str, code: int = 0) -> str:
    """What a real `minigpt fit` says, or its error; without dropout, whose masks would differ by rank."""
    fixed = [
        f"--run.root={root}", f"--data.corpus={corpus}", "--data.tokenizer=byte", "--data.batch_size=4",
        "--model.n_layer=1", "--model.n_embd=16", "--model.n_head=2", "--model.block_size=16", "--model.dropout=0",
        "--run.log_every=2", "--run.eval_every=3", "--run.eval_batches=3", "--run.save_every=3", "--run.sample_every=0",
        "--trainer.accelerator=cpu",
    ]  # fmt: skip
    command = [sys.executable, "-m", "minigpt", "fit", *fixed, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_two_processes_equal_one_and_resume_across(tmp_path: Path, corpus_file: Path) -> None:
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--run.spike_threshold=1e6"]
    two += ["--run.panels=[ratios, calibration]", "--run.panel_every=2"]  # those of the first process: the other waits
    train(tmp_path / "one", corpus_file, "--trainer.devices=1", "--trainer.max_steps=6")
    out = train(tmp_path / "two", corpus_file, *two, "--trainer.max_steps=2")
    # From step 3 on in micro-batches; validated on the same windows, which are counted in batches.
    half = ["--data.batch_size=2", "--trainer.accumulate_grad_batches=2", "--run.eval_batches=6"]
    train(tmp_path / "two", corpus_file, *two, *half, "--trainer.max_steps=4", "--ckpt_path=last")
    assert out.count("parameters, 1 layers") == 1  # only the first process speaks
    train(tmp_path / "two", corpus_file, "--trainer.devices=1", "--trainer.max_steps=6", "--ckpt_path=last")
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["base"]
    one, other = tmp_path / "one" / "base", tmp_path / "two" / "base"
    weights, shared = checkpoint(one, 6)["state_dict"], checkpoint(other, 6)["state_dict"]
    for name, weight in weights.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-4, atol=1e-5)
    rows, also = read_metrics(one / "metrics.csv"), read_metrics(other / "metrics.csv")
    for step, tag in ((2, "train/loss"), (3, "val/loss"), (3, "val/bits_per_byte"), (4, "train/loss")):
        torch.testing.assert_close(torch.tensor(also[step][tag]), torch.tensor(rows[step][tag]), rtol=1e-5, atol=1e-5)
    assert [step for step, _ in curve(other, "val/loss")] == [2, 3, 4, 6]
    assert [step for step, _ in curve(other, "calibration/expected_error")] == [2, 4]


def test_two_processes_stop_together_with_one_line(tmp_path: Path, corpus_file: Path) -> None:
    words = ["--trainer.devices=2", "--trainer.strategy=ddp", "--optim.lr=1e30", "--optim.warmup_steps=0"]
    done = train(tmp_path, corpus_file, *words, code=1)
    assert done.startswith("minigpt: error: the gradient is not finite")
    assert done.count("\n") == 1


def test_step_of_two_processes_replays_whole(tmp_path: Path, corpus_file: Path) -> None:
    """Both have their own windows and dropout, and the gradient is the mean of theirs."""
    words = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accumulate_grad_batches=2"]
    words += ["--model.dropout=0.2", "--optim.lr=1e-6", "--optim.min_lr=0", "--trainer.max_steps=80"]
    error = train(tmp_path, corpus_file, *words, "--run.spike_threshold=0.01", code=1)
    assert error.startswith("minigpt: error: the loss ")
    assert error.count("\n") == 1
    (path,) = (tmp_path / "base" / "divergences").iterdir()
    snapshot = read_snapshot(path)
    assert (snapshot.world, len(snapshot.batches)) == (2, 4)
    again = replay(snapshot, torch.device("cpu"))
    torch.testing.assert_close(torch.tensor(again.losses), torch.tensor(snapshot.losses), rtol=1e-5, atol=0)
    for name, norm in snapshot.grad_norms.items():
        assert again.grad_norms[name] == pytest.approx(norm, rel=1e-4), name
    assert main(["replay", str(path), "--device", "cpu"]) == 0


def test_run_of_two_processes_is_verified_by_two(tmp_path: Path, corpus_file: Path) -> None:
    words = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_steps=6", "--model.dropout=0.2"]
    train(tmp_path, corpus_file, *words)
    command = [sys.executable, "-m", "minigpt", "verify", str(tmp_path / "base")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("verdict    identical: step 6 came out") == 1
    assert done.stdout.count("retraining") == 1
    assert "this environment" not in done.stdout

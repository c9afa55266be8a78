"""The curves that measure the machine: what they say, and that they change nothing."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from minigpt.model.sizes import flops_per_token
from minigpt.runs.metrics_csv import read_metrics
from minigpt.system.utilisation import Peak
from minigpt.training.callbacks import curves
from minigpt.training.callbacks.curves import WALL_CLOCK, Curves
from minigpt.training.fit import fit
from minigpt.training.loggers.tensorboard import RunTensorBoard
from minigpt.training.position import TrainingClock
from training.tiny import assert_same_state, checkpoint, curve, tiny_experiment


def test_speed_and_share_follow_from_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 steps of 100 tokens in 2 seconds, 50 FLOPs a token, a device of 40,000 FLOP/s."""
    clock = TrainingClock()
    monkeypatch.setattr(clock, "seconds", lambda: 12.0)
    written = Curves(2, 100, 50, clock)
    written._mark, written._peak = (6, 10.0), 40_000.0
    assert written._speed(10) == {
        "train/tokens_per_second": 200.0,
        "train/ms_per_step": 500.0,
        "train/mfu": 0.25,
    }
    assert written._mark == (10, 12.0)


def test_columns_of_a_run(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "find_peak", lambda device, precision: Peak(1e9, "data sheet"))
    experiment = tiny_experiment(tmp_path, corpus_file, trainer__accumulate_grad_batches=2)
    assert fit(experiment) == 0
    per_token = flops_per_token(replace(experiment.model, vocab_size=257))
    for row in read_metrics(tmp_path / "tiny" / "metrics.csv").values():
        if "train/loss" in row:
            rate = row["train/tokens_per_second"]
            assert row["train/ms_per_step"] == pytest.approx(1000 * 2 * 4 * 16 / rate)
            assert row["train/mfu"] == pytest.approx(per_token * rate / 1e9)


class Draws(Callback):
    """Note the state of the random numbers when training begins."""

    def on_train_batch_start(self, trainer: object, pl_module: object, batch: object, batch_idx: int) -> None:
        if batch_idx == 0:
            self.state = torch.get_rng_state()


def test_looking_for_the_peak_changes_no_bit(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minigpt.system import matmul

    monkeypatch.setattr(matmul, "_measured", {})
    looked, not_looked = Draws(), Draws()
    assert fit(tiny_experiment(tmp_path / "looked", corpus_file, trainer__callbacks=[looked])) == 0
    assert matmul._measured  # it was measured
    monkeypatch.setattr(curves, "find_peak", lambda device, precision: Peak(1.0, "data sheet"))
    assert fit(tiny_experiment(tmp_path / "not", corpus_file, trainer__callbacks=[not_looked])) == 0
    assert torch.equal(looked.state, not_looked.state)
    assert_same_state(checkpoint(tmp_path / "looked" / "tiny", 12), checkpoint(tmp_path / "not" / "tiny", 12))


def test_an_older_runs_file_gets_the_columns(tmp_path: Path, corpus_file: Path) -> None:
    """A run that was begun before they existed goes on in its metrics.csv, and its rows stay as they were."""
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=8)) == 0
    path = tmp_path / "tiny" / "metrics.csv"
    older = [
        {name: value for name, value in row.items() if name not in {"train/ms_per_step", "train/mfu"}}
        for row in csv.DictReader(path.read_text().splitlines())
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, older[0])
        writer.writeheader()
        writer.writerows(older)
    before = read_metrics(path)
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last") == 0
    rows = read_metrics(path)
    assert {step: rows[step] for step in before} == before
    assert set(rows[10]) >= WALL_CLOCK
    assert not set(rows[4]) >= WALL_CLOCK


def test_a_callback_of_the_config_may_log_several_curves_of_one_chart(tmp_path: Path) -> None:
    """Lightning's own way of doing so; all else of a step is one event."""
    board = RunTensorBoard(tmp_path / "run")
    board.log_metrics({"loss": 1.5, "norm": 2.0}, step=3)
    board.log_metrics({"a": {"x": 1.0, "y": 2.0}}, step=3)
    board.save()
    assert curve(tmp_path / "run", "loss") == [(3, 1.5)]
    assert curve(tmp_path / "run", "norm") == [(3, 2.0)]
    assert curve(tmp_path / "run" / "a_x", "a") == [(3, 1.0)]

"""What callbacks monitor: the names that users see; what no run has is found before training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from minigpt.cli.experiment import build_experiment
from minigpt.errors import ConfigError
from minigpt.runs.metrics_csv import CURVES, read_metrics
from minigpt.training.fit import fit
from minigpt.training.monitors import check_monitors

from .tiny import assert_same_state, checkpoint, tiny_experiment


class Looks(Callback):
    """Notes what could be monitored after each validation."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[str, float]] = {}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen[trainer.global_step] = {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_callbacks_know_the_curves_by_their_names(tmp_path: Path, corpus_file: Path) -> None:
    looks = Looks()
    experiment = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[looks], run__log_every=2)
    assert fit(experiment) == 0
    rows = read_metrics(tmp_path / "tiny" / "metrics.csv")
    assert list(looks.seen) == [5, 10, 12]
    for step, seen in looks.seen.items():
        assert seen["val/loss"] == seen["val_loss"] == torch.tensor(rows[step]["val/loss"]).item()
        assert {
            "val/perplexity",
            "val/bits_per_byte",
            "train/loss",
            "train/grad_norm",
            "train/learning_rate",
        } <= seen.keys()
    # Of the very step that is validated, whether it is a log step or not.
    assert looks.seen[10]["train/loss"] == torch.tensor(rows[10]["train/loss"]).item()
    assert looks.seen[5]["train/loss"] not in {torch.tensor(rows[4]["train/loss"]).item()}


@pytest.mark.parametrize("monitor", ["val/loss", "val_loss", "train/loss", "val/bits_per_byte"])
def test_early_stopping_by_a_name_of_the_curves(monitor: str, tmp_path: Path, corpus_file: Path) -> None:
    """Also by a curve whose first point comes after the first validation."""
    stop = EarlyStopping(monitor, patience=1, min_delta=100.0)
    changes: dict[str, Any] = {"run__log_every": 100, "run__eval_every": 2, "trainer__max_steps": 40}
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[stop], **changes)) == 0
    assert stop.stopped_epoch == 0
    assert stop.wait_count >= 1
    assert not (tmp_path / "tiny" / "checkpoints" / "step=00000040.ckpt").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["EarlyStopping", "monitor=val/los"], "monitors val/los, which no run has, did you mean val/loss?"),
        (["EarlyStopping", "monitor=valid_loss", "strict=false"], "valid_loss, which no run has, did you mean val"),
        (["EarlyStopping", "monitor=accuracy"], "EarlyStopping monitors accuracy, which no run has: there"),
        (["ModelCheckpoint", "monitor=val-loss"], "ModelCheckpoint monitors val-loss, which no run has, did"),
    ],
)  # fmt: skip
def test_what_no_run_has_is_refused_before_anything_is_read(words: list[str], line: str) -> None:
    name, *arguments = words
    argv = [f"--trainer.callbacks+={name}", *(f"--trainer.callbacks.{argument}" for argument in arguments)]
    with pytest.raises(ConfigError) as told:
        build_experiment(argv)
    assert line in str(told.value)


def test_what_another_callback_may_log_is_not_refused() -> None:
    for other in (LearningRateMonitor, Looks):
        check_monitors([(EarlyStopping, "lr-AdamW"), (other, None)])
    check_monitors([(ModelCheckpoint, "step"), (EarlyStopping, "train/mfu")])
    assert all(check_monitors([(EarlyStopping, name)]) is None for name in CURVES)  # type: ignore[func-returns-value]


def test_what_is_not_there_at_a_validation_loses_no_step(tmp_path: Path, corpus_file: Path) -> None:
    """A callback of the user's own might have logged it: one line, and the steps so far are saved."""
    callbacks = [EarlyStopping("mine/score"), Looks()]
    with pytest.raises(ConfigError, match=r"nothing had logged mine/score, which EarlyStopping monitors, when step 5"):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=callbacks))
    assert (tmp_path / "tiny" / "checkpoints" / "step=00000005.ckpt").exists()
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last") == 0
    assert fit(tiny_experiment(tmp_path, corpus_file, run__name="straight")) == 0
    assert_same_state(checkpoint(tmp_path / "tiny", 12), checkpoint(tmp_path / "straight", 12))

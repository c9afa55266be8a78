"""Whole optimizer steps: what a resume begins with, what a stop waits for, what a checkpoint of a callback holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, StochasticWeightAveraging, Timer

from minigpt.errors import ConfigError, TrainingError
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.fit import fit
from minigpt.training.position import batches_done

from .tiny import assert_same_state, checkpoint, tiny_experiment

EVERY_STEP = {"run__log_every": 1, "model__block_size": 16}


def rows(folder: Path) -> dict[int, dict[str, float]]:
    return read_metrics(folder / "metrics.csv")


class At(Callback):
    """Do something once so many batches are done."""

    def __init__(self, batches: int, act: Any) -> None:
        self.batches = batches
        self.act = act

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if batches_done(trainer) == self.batches:
            self.act(trainer)


class AtStart(At):
    """The same from the hook before the batch is read."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None: ...

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_batch_end(trainer)


def stop(trainer: Trainer) -> None:
    trainer.should_stop = True


@pytest.mark.parametrize("before", [(8, 1), (2, 4), (4, 2)])
@pytest.mark.parametrize("after", [(4, 2), (8, 1), (1, 8), (2, 3)])
def test_resume_begins_a_whole_accumulation(
    tmp_path: Path, corpus_file: Path, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """Three steps of one accumulation, then another: the gradient is that of the same windows, to rounding."""
    settings = {**EVERY_STEP, "model__dropout": 0.0}
    straight = tiny_experiment(tmp_path / "straight", corpus_file, **settings, data__batch_size=8, trainer__max_steps=4)
    assert fit(straight) == 0
    for (size, accumulate), steps in ((before, 3), (after, 5)):
        part = tiny_experiment(
            tmp_path / "parts",
            corpus_file,
            **settings,
            data__batch_size=size,
            trainer__accumulate_grad_batches=accumulate,
            trainer__max_steps=steps,
        )
        assert fit(part, ckpt_path=None if steps == 3 else "last") == 0
    expected, found = rows(tmp_path / "straight" / "tiny"), rows(tmp_path / "parts" / "tiny")
    for step in (1, 2, 3) if after == (2, 3) else (1, 2, 3, 4):
        for name in ("train/loss", "train/grad_norm"):
            assert found[step][name] == pytest.approx(expected[step][name], rel=1e-4), (step, name)
    windows = 3 * 8 + 2 * after[0] * after[1]
    assert checkpoint(tmp_path / "parts" / "tiny", 5)["TokenDataModule"]["windows"] == windows


@pytest.mark.parametrize("callback", [At, AtStart])
@pytest.mark.parametrize("batch", [9, 10, 11])
def test_stop_waits_for_the_end_of_the_step(
    tmp_path: Path, corpus_file: Path, batch: int, callback: type[At], capsys: pytest.CaptureFixture[str]
) -> None:
    """Amid the accumulation of the fourth step or at its start: the run ends after a step, and goes on to the bit."""
    settings = {**EVERY_STEP, "trainer__accumulate_grad_batches": 3}
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file, **settings)) == 0
    stopped = tiny_experiment(tmp_path / "stopped", corpus_file, **settings, trainer__callbacks=[callback(batch, stop)])
    assert fit(stopped) == 0
    step = 3 if (callback, batch) == (At, 9) else 4
    one, other = tmp_path / "straight" / "tiny", tmp_path / "stopped" / "tiny"
    assert checkpoint(other, step)["TokenDataModule"] == {"batches": 3 * step, "windows": 12 * step}
    assert max(rows(other)) == step
    assert fit(tiny_experiment(tmp_path / "stopped", corpus_file, **settings), ckpt_path="last") == 0
    assert_same_state(checkpoint(one, 12), checkpoint(other, 12))
    for name in ("epoch_progress", "epoch_loop.batch_progress", "epoch_loop.state_dict"):
        loops = [checkpoint(folder, 12)["loops"]["fit_loop"] for folder in (one, other)]
        assert loops[0][name] == loops[1][name], name
    expected, found = rows(one), rows(other)
    for number, row in expected.items():
        for name in ("train/loss", "train/grad_norm"):
            assert found[number][name] == row[name], (number, name)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_before_backward", "on_before_zero_grad"])
def test_checkpoint_of_a_callback_amid_an_accumulation_holds_the_last_whole_step(
    tmp_path: Path, corpus_file: Path, hook: str
) -> None:
    """As a ModelCheckpoint by the clock or an OnExceptionCheckpoint writes it."""
    settings = {**EVERY_STEP, "trainer__accumulate_grad_batches": 4}
    path = tmp_path / "theirs.ckpt"

    class Save(Callback):
        def save(self, trainer: Trainer, *args: Any) -> None:
            if batches_done(trainer) == (22 if hook == "on_train_batch_end" else 20) and not path.exists():
                trainer.save_checkpoint(path)

    setattr(Save, hook, Save.save)
    saving = tiny_experiment(tmp_path / "straight", corpus_file, **settings, trainer__callbacks=[Save()])
    assert fit(saving) == 0
    assert torch.load(path, weights_only=True)["TokenDataModule"] == {"batches": 20, "windows": 80}
    assert fit(tiny_experiment(tmp_path / "branch", corpus_file, **settings), ckpt_path=str(path)) == 0
    one, other = (tmp_path / name / "tiny" for name in ("straight", "branch"))
    assert_same_state(checkpoint(one, 12), checkpoint(other, 12))
    assert rows(one)[6]["train/grad_norm"] == rows(other)[6]["train/grad_norm"]


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (GradientAccumulationScheduler({0: 2}), "GradientAccumulationScheduler counts epochs.*accumulate_grad_batches"),
        (GradientAccumulationScheduler({0: 1, 4: 2}), "GradientAccumulationScheduler counts epochs"),
        (StochasticWeightAveraging(1e-3), "StochasticWeightAveraging counts epochs.*EMAWeightAveraging"),
        (Timer("00:00:10:00", interval="epoch"), "Timer counts epochs.*interval=step"),
        (EarlyStopping("val_loss", check_on_train_epoch_end=True), "EarlyStopping counts epochs"),
    ],
)
def test_callbacks_that_count_epochs_are_refused(
    tmp_path: Path, corpus_file: Path, callback: Callback, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"trainer.callbacks: {message}"):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[callback]))
    assert not (tmp_path / "tiny").exists()


def test_accumulation_that_a_callback_changes_is_refused(tmp_path: Path, corpus_file: Path) -> None:
    def change(trainer: Trainer) -> None:
        trainer.accumulate_grad_batches = 2

    with pytest.raises(ConfigError, match=r"changed trainer.accumulate_grad_batches from 1 to 2"):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[At(3, change)]))


def test_epoch_that_a_callback_ends_is_not_begun_again(tmp_path: Path, corpus_file: Path) -> None:
    """It would read the same windows once more."""

    def end(trainer: Trainer) -> None:
        raise StopIteration

    settings = {"trainer__accumulate_grad_batches": 2, "trainer__callbacks": [AtStart(5, end)]}
    with pytest.raises(TrainingError, match=r"ended the epoch after step 2.*should_stop"):
        fit(tiny_experiment(tmp_path, corpus_file, **settings))

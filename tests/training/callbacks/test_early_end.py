"""An early end is said with its reason, recorded, and each session has its own time."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer

from minigpt.training.fit import fit
from training.tiny import assert_same_state, checkpoint, tiny_experiment


class Expire(Callback):
    """Let the time of all timers pass at a step, without waiting for it."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer) and trainer.global_step == self.step:
                callback._start_time["train"] = time.monotonic() - 1e6  # type: ignore[index]


class Stop(Callback):
    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.global_step == 3


def sessions(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "provenance.json").read_text())["sessions"]
    return found


@pytest.mark.parametrize("by", ["max_time", "Timer"])
def test_each_session_has_its_own_time(
    tmp_path: Path, corpus_file: Path, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first ends in its sixth step, amid the accumulation; the second, with the same limit, comes to the end."""
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file, trainer__accumulate_grad_batches=2)) == 0

    def limited(*callbacks: Callback) -> Any:
        timers = [Timer("00:00:10:00")] if by == "Timer" else []
        settings = {"trainer__max_time": "00:00:10:00"} if by == "max_time" else {}
        settings |= {"trainer__callbacks": [*timers, *callbacks], "trainer__accumulate_grad_batches": 2}
        return tiny_experiment(tmp_path / "limited", corpus_file, **settings)

    capsys.readouterr()
    assert fit(limited(Expire(5))) == 0
    folder = tmp_path / "limited" / "tiny"
    told = f"stopped early: time limit at step 6 of 12; minigpt fit --resume {folder} goes on\n"
    assert told in capsys.readouterr().out
    assert sessions(folder)[-1]["stopped_early"] == "time limit at step 6 of 12"
    assert fit(limited(), ckpt_path="last") == 0
    assert "stopped early" not in capsys.readouterr().out
    assert_same_state(checkpoint(tmp_path / "straight" / "tiny", 12), checkpoint(folder, 12))
    assert "stopped_early" not in sessions(folder)[-1]


def test_time_that_is_over_at_once_leaves_one_step(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soon = Timer(timedelta(microseconds=1))
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[soon])) == 0
    assert "stopped early: time limit at step 1 of 12" in capsys.readouterr().out


def test_reason_is_the_callback_that_stopped_this_session(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """EarlyStopping keeps its reason in the checkpoint; the next session ends for another one, and then for none."""

    def stopping(patience: int) -> EarlyStopping:
        return EarlyStopping("val_loss", patience=patience, min_delta=100.0)

    first = tiny_experiment(tmp_path, corpus_file, run__eval_every=1, trainer__callbacks=[stopping(1)])
    assert fit(first) == 0
    said = capsys.readouterr().out
    assert "stopped early: EarlyStopping (Monitored metric val_loss did not improve in the last 1 records. " in said
    assert "at step 2 of 12; minigpt fit --resume " in said
    assert checkpoint(tmp_path / "tiny", 2)["global_step"] == 2
    second = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[stopping(99), Stop()])
    assert fit(second, ckpt_path="last") == 0
    assert "stopped early: a callback (trainer.should_stop) at step 3 of 12" in capsys.readouterr().out
    assert [session.get("stopped_early", "")[:13] for session in sessions(tmp_path / "tiny")] == [
        "EarlyStopping",
        "a callback (t",
    ]

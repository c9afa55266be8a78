"""The bar of a training, and its line for each validation, in terminals of several widths and in a pipe."""

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from minigpt.training.callbacks.curves import Curves
from minigpt.training.callbacks.progress import ProgressBar
from minigpt.training.position import TrainingClock

NUMBERS = {"train/loss": 1.5, "val/loss": 2.25, "train/tokens_per_second": 12_345.0, "train/mfu": 0.4123}


def started(width: int, monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True) -> tuple[ProgressBar, Any, Any]:
    """A bar at step 0 of 20,000, whose clock stands still, with a trainer and what it writes to."""
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    bar = ProgressBar(Curves(1, 1, 1, TrainingClock()), console)
    trainer = SimpleNamespace(global_step=0, max_steps=20_000, is_global_zero=True)
    bar.on_train_start(trainer, None)  # type: ignore[arg-type]
    bar.curves.latest.update(NUMBERS)
    monkeypatch.setattr("time.perf_counter", lambda: 75.4)
    return bar, trainer, output


def last_line(output: io.StringIO) -> str:
    """Without the codes that move the cursor or hide it."""
    lines = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", output.getvalue().replace("\r", "\n")).splitlines()
    return [line for line in lines if line.strip()][-1]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (40, "step  1,000/20,000  23.9 min left"),
        (60, "step  1,000/20,000  loss 1.5000  val 2.2500  23.9 min left"),
        (80, "step  1,000/20,000  loss 1.5000  val 2.2500  12.3k tokens/s  23.9 min left"),
        (97, "step  1,000/20,000  loss 1.5000  val 2.2500  12.3k tokens/s  41.2% MFU  75 s  23.9 min left"),
    ],
)
def test_the_bar_gives_way_first_and_the_step_and_the_time_left_never(
    width: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bar, trainer, output = started(width, monkeypatch)
    trainer.global_step = 1000
    bar.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert line in output.getvalue()
    assert last_line(output) == line
    bar._stop()


def test_where_there_is_room_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, trainer, output = started(120, monkeypatch)
    bar._draw(trainer, 1000, now=True)
    assert "20,000  ━" in last_line(output)
    assert len(last_line(output)) <= 120
    bar._stop()


def test_at_its_end_the_bar_shows_the_last_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which comes after the last step; or, where a run is stopped early, after the end of training."""
    for step in (20_000, 7):
        bar, trainer, output = started(80, monkeypatch)
        bar.on_step(trainer, None, step)  # type: ignore[arg-type]
        bar.on_train_end(trainer, None)  # type: ignore[arg-type]
        trainer.global_step = step
        bar.curves.latest["val/loss"] = 1.125
        bar.on_validation_end(trainer, None)  # type: ignore[arg-type]
        bar.on_fit_end(trainer, None)  # type: ignore[arg-type]
        assert "val 1.1250" in last_line(output)
        assert f"step {step:>6,}/20,000" in last_line(output)


def test_in_a_pipe_a_line_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, trainer, output = started(20, monkeypatch, terminal=False)
    trainer.global_step = 20_000
    bar.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert output.getvalue() == "step 20,000/20,000  loss 1.5000  val 2.2500  12.3k tokens/s  41.2% MFU  75 s\n"

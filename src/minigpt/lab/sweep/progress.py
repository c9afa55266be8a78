"""The progress of cells, read from the metrics.csv that each is writing, and the remaining time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.lab.sweep.cell import CellRun
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.paths import METRICS

_RECENT = 6
"""Number of finished cells that the time of the next one is estimated from."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The latest numbers of a run."""

    step: int = 0
    train_loss: float | None = None
    val_loss: float | None = None


def read_progress(folder: Path) -> Progress:
    """The latest step and losses of the run in `folder`; empty if nothing is written yet."""
    rows, newest = _rows(folder), dict[str, float]()
    for row in rows.values():
        newest.update(row)
    return Progress(step=max(rows, default=0), train_loss=newest.get("train/loss"), val_loss=newest.get("val/loss"))


def read_curve(folder: Path, column: str) -> list[tuple[int, float]]:
    """The (step, value) pairs of one column."""
    return [(step, row[column]) for step, row in _rows(folder).items() if column in row]


def _rows(folder: Path) -> dict[int, dict[str, float]]:
    """The rows by step; empty for a damaged file, which the run itself will report."""
    try:
        return read_metrics(folder / METRICS)
    except (OSError, CheckpointError):
        return {}


class Clock:
    """Estimate the remaining seconds from the steps of the running cells, without their start-up."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._seen: dict[str, tuple[float, int]] = {}
        self._took: list[float] = []

    def begin(self, run: CellRun) -> None:
        """Note the start of a cell's session."""
        self._began[run.name] = time.monotonic()

    def end(self, run: CellRun) -> None:
        """Note its end."""
        self._took.append(self.elapsed(run.name))

    def elapsed(self, name: str) -> float:
        """Seconds since the cell started in this session."""
        return time.monotonic() - self._began.get(name, time.monotonic())

    def left(self, run: CellRun, step: int) -> float | None:
        """Remaining seconds of a cell that is at `step`; None if too little was seen yet."""
        now = time.monotonic()
        began, first = self._seen.setdefault(run.name, (now, step)) if step else (now, step)
        return (now - began) / (step - first) * (run.max_steps - step) if step > first else None

    def whole(self, lefts: Mapping[str, float]) -> float:
        """Seconds of a whole cell: the mean of the last finished ones, or of the estimates for the running ones."""
        took = self._took[-_RECENT:] or [left + self.elapsed(name) for name, left in lefts.items()]
        return sum(took) / len(took)

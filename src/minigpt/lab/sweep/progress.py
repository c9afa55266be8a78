"""The progress of cells, read from the metrics.csv that each is writing, and the time that is left."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.lab.sweep.cell import CellRun
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.paths import METRICS

_RECENT = 6
"""Cells that the next one's time is estimated by."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The newest numbers of a run."""

    step: int = 0
    train_loss: float | None = None
    val_loss: float | None = None


def read_progress(folder: Path) -> Progress:
    """The newest step and losses of the run in `folder`; nothing where nothing is written yet."""
    rows, newest = _rows(folder), dict[str, float]()
    for row in rows.values():
        newest.update(row)
    return Progress(step=max(rows, default=0), train_loss=newest.get("train/loss"), val_loss=newest.get("val/loss"))


def read_curve(folder: Path, column: str) -> list[tuple[int, float]]:
    """(step, value) of one column."""
    return [(step, row[column]) for step, row in _rows(folder).items() if column in row]


def _rows(folder: Path) -> dict[int, dict[str, float]]:
    """By step; a file that a person has spoilt shows nothing: the run itself will say what is wrong with it."""
    try:
        return read_metrics(folder / METRICS)
    except (OSError, CheckpointError):
        return {}


class Clock:
    """Seconds left, from the steps that the running cells did since their first one was seen: starting up is none."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._seen: dict[str, tuple[float, int]] = {}
        self._took: list[float] = []

    def begin(self, run: CellRun) -> None:
        """A session of a cell begins."""
        self._began[run.name] = time.monotonic()

    def end(self, run: CellRun) -> None:
        """It has ended."""
        self._took.append(self.elapsed(run.name))

    def elapsed(self, name: str) -> float:
        """Seconds since the cell began in this session."""
        return time.monotonic() - self._began.get(name, time.monotonic())

    def left(self, run: CellRun, step: int) -> float | None:
        """Seconds until the cell that stands at `step` is done; None: too little of it was seen yet."""
        now = time.monotonic()
        began, first = self._seen.setdefault(run.name, (now, step)) if step else (now, step)
        return (now - began) / (step - first) * (run.max_steps - step) if step > first else None

    def whole(self, lefts: Mapping[str, float]) -> float:
        """Seconds that a cell takes from its start: what the last ones took, or those at work will have taken."""
        took = self._took[-_RECENT:] or [left + self.elapsed(name) for name, left in lefts.items()]
        return sum(took) / len(took)

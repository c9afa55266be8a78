"""Where a cell stands, read from the metrics.csv that it is writing."""

from dataclasses import dataclass
from pathlib import Path

from minigpt.errors import CheckpointError
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.paths import METRICS


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

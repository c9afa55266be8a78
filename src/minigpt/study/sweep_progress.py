"""Where a cell stands, read from the metrics.csv that it is writing."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The newest numbers of a run."""

    step: int = 0
    train_loss: float | None = None
    val_loss: float | None = None


def read_progress(folder: Path) -> Progress:
    """The newest step and losses of the run in `folder`; nothing where nothing is written yet."""
    step, newest = 0, dict[str, float]()
    for step, row in read_rows(folder):  # noqa: B007 (the last one is wanted)
        newest.update(row)
    return Progress(step=step, train_loss=newest.get("train/loss"), val_loss=newest.get("val/loss"))


def read_curve(folder: Path, column: str) -> list[tuple[int, float]]:
    """(step, value) of one column."""
    return [(step, row[column]) for step, row in read_rows(folder) if column in row]


def read_rows(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Each whole row; a file that is being written, or that a person has changed, is read as far as it goes."""
    try:
        lines = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return
    for row in csv.DictReader(line for line in lines if line.endswith("\n")):
        try:
            step = int(row.pop("step"))
            yield step, {name: float(cell) for name, cell in row.items() if cell}
        except (KeyError, ValueError, TypeError):
            continue

"""Read a `metrics.csv`."""

import csv
import io
from pathlib import Path

from minigpt.errors import CheckpointError

CURVES = (
    "train/loss", "train/grad_norm", "train/learning_rate", "train/tokens_per_second", "train/ms_per_step", "train/mfu",
    "val/loss", "val/perplexity", "val/bits_per_byte",
)  # fmt: skip
"""The columns of every run, beside step; panels and callbacks of the config's add theirs."""


def read_metrics(path: Path, up_to: int | None = None) -> dict[int, dict[str, float]]:
    """The rows of a metrics.csv by step, without its empty cells.

    Raises CheckpointError, one line, for what cannot be kept, such as a column of words: nothing is lost when the file
    is written anew. A last line without its end is taken to be cut short by a kill and left out; but if all its cells
    are there and its step is not beyond `up_to`, that of a checkpoint, then it was whole once.
    """
    lines = _table(path)
    header, *rows = lines or [["step"]]
    unclosed = len(rows) if rows and not path.read_bytes().endswith((b"\n", b"\r")) else 0
    if "step" not in header or len(set(header)) < len(header):
        raise CheckpointError(
            f"{path}: its first line must name step and each column once, with commas: {str(header)[:99]}"
        )
    found: dict[int, dict[str, float]] = {}
    for number, cells in enumerate(rows, start=1):
        if not any(cells):
            continue
        if number == unclosed and not _was_whole(header, cells, up_to):
            continue
        if len(cells) > len(header):
            raise CheckpointError(f"{path}, row {number}: {len(cells)} cells under {len(header)} columns")
        row = {name: _number(path, number, name, cell) for name, cell in zip(header, cells, strict=False) if cell}
        step = row.pop("step", -1.0)
        if step < 0 or not step.is_integer():
            raise CheckpointError(f"{path}, row {number}: its step must be a whole number")
        if int(step) in found:
            raise CheckpointError(f"{path}, row {number}: step {int(step)} has a row already")
        found[int(step)] = row
    return found


def _table(path: Path) -> list[list[str]]:
    """The cells of a file of comma-separated values."""
    try:
        return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(f"{path} is no table of comma-separated values: {error}") from error


def _was_whole(header: list[str], cells: list[str], up_to: int | None) -> bool:
    step = dict(zip(header, cells, strict=False)).get("step", "")
    return up_to is not None and len(cells) == len(header) and step.isdecimal() and int(step) <= up_to


def _number(path: Path, number: int, name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise CheckpointError(f"{path}, row {number}: {cell[:40]!r} under {name!r} is not a number") from None

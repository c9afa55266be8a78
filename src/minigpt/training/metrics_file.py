"""`metrics.csv`: one row a step, one column a curve, for a spreadsheet or a notebook."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from minigpt.errors import CheckpointError
from minigpt.files import atomic_write
from minigpt.training.position import is_main_process


class MetricsFile(Logger):
    """A Lightning logger that appends rows as they are complete and continues the file of a resumed run.

    `resume_step` is the step of the checkpoint that a run goes on from: rows beyond it were written by a process that
    died before its next checkpoint, and the resumed run will write them again.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, dict[str, float]] = {}
        if resume_step is not None and path.exists() and is_main_process():
            rows = read_metrics(path, up_to=resume_step)
            self._rows = {step: row for step, row in rows.items() if step <= resume_step}
        self._columns = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        # The file is cut back with the first row of this process, not here: until training begins, it may turn out that
        # another process is at work in this folder.
        self._written = 0

    @property
    def name(self) -> str:
        """What Lightning calls it."""
        return "metrics.csv"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the settings stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add `metrics` to the row of `step`; rows of earlier steps are complete and go to the file."""
        assert step is not None
        self._columns += [name for name in metrics if name not in self._columns]
        if step not in self._rows:
            self.save()
        elif len(self._rows) <= self._written:
            self._written = 0  # the row stands in the file already: write the file anew
        self._rows.setdefault(step, {}).update({name: float(value) for name, value in metrics.items()})

    @rank_zero_only
    def save(self) -> None:
        """Bring the file up to date: append the new rows, or write it anew if there is a new column."""
        header = self._header()
        if self._written and self._written_header == header:
            new = list(self._rows.items())[self._written :]
            self._written = 0  # an interrupt or a full disk amid the lines: then the file is written anew
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write("".join(self._line(step, row) for step, row in new))
            self._written = len(self._rows)
        elif self._rows:
            self._rewrite()

    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()

    def _rewrite(self) -> None:
        self._written_header = self._header()
        lines = [_csv_line(self._written_header), *(self._line(step, row) for step, row in self._rows.items())]
        atomic_write(self.path, "".join(lines))
        self._written = len(self._rows)

    def _header(self) -> list[str]:
        return ["step", *self._columns]

    def _line(self, step: int, row: dict[str, float]) -> str:
        # repr keeps every bit of a float, so that curves can be compared exactly
        return _csv_line([str(step), *(repr(row[name]) if name in row else "" for name in self._columns)])


def read_metrics(path: Path, up_to: int | None = None) -> dict[int, dict[str, float]]:
    """The rows of a metrics.csv by step, without its empty cells.

    A spreadsheet may have saved it: with semicolons and decimal commas, tabs, other ends of lines, columns moved or
    added. What cannot be kept, such as a column of words, is a CheckpointError of one line, so that nothing is lost
    when the file is written anew. A last line without its end is taken to be cut short by a kill and left out; but if
    all its cells are there and its step is not beyond `up_to`, that of a checkpoint, then it was whole once.
    """
    lines = _table(path)
    header, *rows = lines or [["step"]]
    unclosed = len(rows) if rows and not path.read_bytes().endswith((b"\n", b"\r")) else 0
    if "step" not in header or len(set(header)) < len(header):
        raise CheckpointError(f"{path}: its first line must name step and each column once: {str(header)[:99]}")
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


_DELIMITERS = (",", ";", "\t")


def _table(path: Path) -> list[list[str]]:
    """The cells of a file of comma-separated values or its like, decimal commas made points."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # a spreadsheet may begin it with a mark of its encoding
        first = text.partition("\n")[0]
        delimiter = next((each for each in _DELIMITERS if "step" in _cells(first, each)), ",")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(f"{path} is no table of comma-separated values: {error}") from error
    if delimiter == ",":
        return rows
    return rows[:1] + [[cell.replace(",", ".") for cell in row] for row in rows[1:]]


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _was_whole(header: list[str], cells: list[str], up_to: int | None) -> bool:
    step = dict(zip(header, cells, strict=False)).get("step", "")
    return up_to is not None and len(cells) == len(header) and step.isdecimal() and int(step) <= up_to


def _number(path: Path, number: int, name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise CheckpointError(f"{path}, row {number}: {cell[:40]!r} under {name!r} is not a number") from None


def _csv_line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()

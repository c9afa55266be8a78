"""`metrics.csv`: one row a step, one column a curve, for a spreadsheet or a notebook."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from minigpt.runs.metrics_csv import read_metrics
from minigpt.system.files import atomic_write
from minigpt.system.output import REPLACEMENT


class MetricsFile(Logger):
    """A Lightning logger that appends rows as they are complete and continues the file of a resumed run.

    `resume_step` is the step of the checkpoint that a run goes on from: rows beyond it were written by a process that
    died before its next checkpoint, and the resumed run will write them again.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, dict[str, float]] = {}
        if resume_step is not None and path.exists():
            rows = read_metrics(path, up_to=resume_step)
            self._rows = {step: row for step, row in rows.items() if step <= resume_step}
        self._columns = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        # The file is cut back with the first row of this process, not here: until training begins, it may turn out that
        # another process is at work in this folder.
        self._written = 0

    @property
    def name(self) -> str:
        """Name of the logger for Lightning."""
        return "metrics.csv"

    @property
    def version(self) -> str:
        """Empty: there is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the settings are in config.yaml."""

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
            with self.path.open("a", encoding="utf-8", errors=REPLACEMENT, newline="") as file:
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


def _csv_line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()

"""What a measurement is told by: one table, on a terminal, as plain text, and as Markdown for a file."""

import datetime
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from minigpt.bench.measure import Spread
from minigpt.training.provenance import describe


@dataclass(frozen=True, kw_only=True)
class Report:
    """A table, and what it comes to."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]
    """Lines before the table: how it was measured."""
    verdict: str
    """The last line."""

    def show(self, console: Console) -> None:
        """On a terminal with lines between the columns, in Markdown where the output is piped."""
        for note in self.notes:
            console.print(note, highlight=False, soft_wrap=True, markup=False)
        if console.is_terminal:
            table = RichTable(*self.columns)
            for row in self.rows:
                table.add_row(*(Text(cell) for cell in row))
            console.print(table)
        else:
            console.print(self._table(), highlight=False, soft_wrap=True, markup=False)
        console.print(self.verdict, highlight=False, soft_wrap=True, markup=False, style="bold")

    def markdown(self, command: Sequence[str]) -> str:
        """The whole report for a file: command and machine, notes, table, verdict."""
        return "\n\n".join([machine(command), *self.notes, self._table(), self.verdict]) + "\n"

    def _table(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine(command: Sequence[str]) -> str:
    """Two lines: the command, and the day, the machine and the versions it ran on."""
    facts = describe(command)
    where, versions = facts["machine"], facts["versions"]
    gpus = ", ".join(where["gpus"]) or "no GPU"
    told = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "lightning"))
    day = datetime.datetime.now(datetime.UTC).date()
    threads = torch.get_num_threads()
    place = f"{where['processor']}, {where['cores']} cores, {threads} threads, {gpus}"
    return f"`{shlex.join(command)}`\n\n{day}: {place}; {told}"


def milliseconds(seconds: Spread) -> str:
    """`41.3 ms (40.2 to 44.8)`"""
    return with_unit(seconds.map(lambda value: 1000 * value), "ms")


def with_unit(values: Spread, unit: str) -> str:
    """Median, unit, and in brackets the lowest and the highest, in three digits at least."""
    return f"{number(values.median)} {unit} ({number(values.low)} to {number(values.high)})"


def number(value: float) -> str:
    """`0.0123`, `4.56`, `78.9`, `1,234`: three digits, and all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"  # which would write 99.96 as 1e+02


def ratio_of(values: Spread) -> str:
    """`0.63 (0.61 to 0.66)`"""
    return f"{values.median:.3f} ({values.low:.3f} to {values.high:.3f})"


def megabytes(n_bytes: int | None) -> str:
    """Of what nobody has counted: a dash."""
    return "–" if n_bytes is None else f"{number(n_bytes / 1e6)} MB"

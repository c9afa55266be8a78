"""What a measurement is told by: one table with notes and a verdict, also as Markdown for a file."""

import datetime
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from minigpt.lab.bench.measure import Spread
from minigpt.runs.provenance import describe
from minigpt.system.tables import Table


@dataclass(frozen=True, kw_only=True)
class Report:
    """A table, and what it comes to."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]
    """Lines before the table: how it was measured."""
    verdict: str
    """The last line."""
    prose: frozenset[str] = frozenset()
    """The columns of words."""

    def table(self) -> Table:
        """For a terminal, or plain for a pipe."""
        numbers = frozenset(self.columns[1:]) - self.prose
        return Table(
            title="", columns=self.columns, rows=list(self.rows), numbers=numbers, prose=self.prose, reads_down=True
        )

    def markdown(self, command: Sequence[str]) -> str:
        """The whole report for a file: command and machine, notes, table, verdict."""
        return "\n\n".join([machine(command), *self.notes, self._markdown_table(), self.verdict]) + "\n"

    def _markdown_table(self) -> str:
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


def spread_text(values: Spread, text: Callable[[float], str]) -> str:
    """The median, and in brackets the lowest and the highest: `41.3 ms (40.2 ms to 44.8 ms)`."""
    return f"{text(values.median)} ({text(values.low)} to {text(values.high)})"


def ratio_text(value: float) -> str:
    """`0.634`"""
    return f"{value:.3f}"


def share_text(value: float) -> str:
    """`37.2%`"""
    return f"{value:.1%}"

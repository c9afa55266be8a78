"""Show a running sweep: a live table in a terminal, a line for each change elsewhere."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from minigpt.errors import ConfigError, printable
from minigpt.lab.sweep.cell import CellRun, Outcome
from minigpt.lab.sweep.file import Cell
from minigpt.lab.sweep.folder import CellRecord, State
from minigpt.lab.sweep.progress import Clock, Progress, read_progress
from minigpt.system.units import clock_text

_REFRESH_SECONDS = 1.0
_COLOURS = {
    "running": "cyan", "finished": "green", "stopped": "yellow", "diverged": "red", "failed": "red", "pruned": "yellow"
}  # fmt: skip
_ORDER: tuple[State, ...] = ("running", "failed", "diverged", "stopped", "finished", "pruned", "waiting")
"""Order of the rows, if they are more than the terminal has lines."""
_FRAME_LINES = 6
"""Lines of the table's header and footer."""


class View(Protocol):
    """Shows the progress of a sweep."""

    def began(self, run: CellRun) -> None:
        """A cell has started or resumed."""

    def ended(self, run: CellRun, outcome: Outcome) -> None:
        """A cell has ended."""

    def refused(self, cell: Cell, reason: str) -> None:
        """The settings of a cell are invalid."""

    def refresh(self) -> None:
        """Called repeatedly as time passes."""


class PlainView:
    """Prints a line whenever a cell starts or ends."""

    def __init__(self, console: Console, records: Mapping[str, CellRecord], planned: Callable[[], int]) -> None:
        self._console = console
        self._records = records
        self._planned = planned
        self._clock = Clock()

    def began(self, run: CellRun) -> None:
        """`running   position=rotary,seed=1 from step 200`."""
        self._clock.begin(run)
        step = run.steps_saved()
        self._say("running", run.name, f"from step {step:,}" if step else "")

    def ended(self, run: CellRun, outcome: Outcome) -> None:
        """`finished  position=rotary,seed=1 step 600, val 3.4120, 21 s  (4 of 54 done)`."""
        progress = read_progress(run.path)
        numbers = [f"step {progress.step:,}", *_losses(progress), clock_text(self._clock.elapsed(run.name))]
        reason = f": {printable(outcome.reason)}" if outcome.reason else ""
        self._say(outcome.state, run.name, f"{', '.join(numbers)}  {self._done()}{reason}")

    def refused(self, cell: Cell, reason: str) -> None:
        """`failed    trial=003,seed=1  (4 of 20 done): n_embd=48 must be divisible by n_head=5`."""
        self._say("failed", cell.name, f"{self._done()}: {printable(reason)}")

    def refresh(self) -> None:
        """Print nothing."""

    def _done(self) -> str:
        done = sum(record.state not in {"waiting", "running"} for record in self._records.values())
        return f"({done} of {self._planned()} done)"

    def _say(self, state: str, name: str, rest: str) -> None:
        self._console.print(Text(f"{state:<9} {name}  {rest}".rstrip()), soft_wrap=True)


class LiveView:
    """Shows all cells in one table, running ones first; those that do not fit in the terminal are counted."""

    def __init__(
        self,
        console: Console,
        records: Mapping[str, CellRecord],
        planned: Callable[[], int],
        make_run: Callable[[Cell], CellRun],
    ) -> None:
        self._console = console
        self._records = records
        self._planned = planned
        self._make_run = make_run
        self._clock = Clock()
        self._runs: dict[str, CellRun | None] = {}
        """By cell; None if its settings are invalid."""
        self._last: dict[str, Progress] = {}
        self._shown = 0.0
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last table on the screen."""
        self._live.update(self._table(), refresh=True)
        self._live.stop()

    def began(self, run: CellRun) -> None:
        """Show the cell as running."""
        self._clock.begin(run)
        self.refresh()

    def ended(self, run: CellRun, outcome: Outcome) -> None:
        """Show how the cell ended."""
        if outcome.state == "finished":
            self._clock.end(run)
        self._last[run.name] = read_progress(run.path)
        self._shown = 0.0
        self.refresh()

    def refused(self, cell: Cell, reason: str) -> None:  # noqa: ARG002
        """Show the cell as failed."""
        self._shown = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Draw the table, at most once a second."""
        now = time.monotonic()
        if now - self._shown >= _REFRESH_SECONDS:
            self._shown = now
            self._live.update(self._table(), refresh=True)

    def _table(self) -> RenderableType:
        records = sorted(self._records.values(), key=lambda record: _ORDER.index(record.state))
        room = max(3, self._console.height - _FRAME_LINES)
        shown, rest = (records, []) if len(records) <= room else (records[: room - 1], records[room - 1 :])
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("cell", overflow="ellipsis", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for title in ("step", "train", "val", "left"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
        for record in shown:
            table.add_row(*self._row(record))
        if rest:
            counts = Counter(record.state for record in rest)
            table.add_row(f"and {len(rest)} more: {', '.join(f'{n} {state}' for state, n in counts.items())}")
        return Group(table, Text(self._summary(), style="bold"))

    def _row(self, record: CellRecord) -> list[RenderableType]:
        name, state = record.cell.name, Text(record.state, style=_COLOURS.get(record.state, ""))
        run = self._run(record.cell)
        if run is None:
            return [name, state, "", "", "", "", Text(printable(record.reason or ""))]
        if record.state == "running" or name not in self._last:
            self._last[name] = read_progress(run.path)
        progress = self._last[name]
        left = self._clock.left(run, progress.step) if record.state == "running" else None
        losses = ["" if loss is None else f"{loss:.4f}" for loss in (progress.train_loss, progress.val_loss)]
        step = "" if record.state == "waiting" and not progress.step else f"{progress.step:,}/{run.max_steps:,}"
        return [
            name,
            state,
            step,
            *losses,
            "" if left is None else clock_text(left),
            Text(printable(record.reason or "")),
        ]

    def _run(self, cell: Cell) -> CellRun | None:
        """The run of a cell, made once as every refresh needs it."""
        if cell.name not in self._runs:
            try:
                self._runs[cell.name] = self._make_run(cell)
            except ConfigError:
                self._runs[cell.name] = None
        return self._runs[cell.name]

    def _summary(self) -> str:
        counts = Counter(record.state for record in self._records.values())
        planned = self._planned()
        counts["waiting"] += planned - len(self._records)
        parts = [f"{counts[state]} {state}" for state in _ORDER if counts[state]]
        left = self._left(counts["waiting"])
        return f"{planned} cells: {', '.join(parts)}{f'; about {clock_text(left)} left' if left is not None else ''}"

    def _left(self, n_waiting: int) -> float | None:
        """Remaining seconds, assuming that waiting cells take as long as others."""
        at_work = [record.cell for record in self._records.values() if record.state == "running"]
        lefts = {}
        for cell in at_work:
            run = self._run(cell)
            left = self._clock.left(run, self._last.get(cell.name, Progress()).step) if run else None
            if left is not None:
                lefts[cell.name] = left
        if not lefts:
            return None
        return max(lefts.values()) + self._clock.whole(lefts) * (n_waiting / len(at_work))


def _losses(progress: Progress) -> list[str]:
    pairs = (("loss", progress.train_loss), ("val", progress.val_loss))
    return [f"{word} {loss:.4f}" for word, loss in pairs if loss is not None]

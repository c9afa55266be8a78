"""Run the cells of a sweep, several at a time, and record how each ends."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Protocol

from minigpt.errors import ConfigError
from minigpt.lab.sweep.cell import CellRun, Outcome
from minigpt.lab.sweep.file import Cell
from minigpt.lab.sweep.folder import SweepFolder
from minigpt.lab.sweep.view import View

_POLL_SECONDS = 0.2


class Executor(Protocol):
    """Runs cells somewhere."""

    def has_room(self) -> bool:
        """Whether another cell can begin."""

    def start(self, run: CellRun) -> None:
        """Start or resume a cell."""

    def ended(self) -> Sequence[tuple[str, Outcome]]:
        """The cells that have ended since the last call."""

    def stop(self, name: str) -> None:
        """Ask a cell to save and exit; a second call ends it at once."""


class Source(Protocol):
    """Produces cells."""

    def next(self) -> Cell | None:
        """The next cell; None if there is none at the moment."""

    def why_prune(self, run: CellRun) -> str | None:
        """Why a running cell should be pruned, judged by its metrics; None if it should go on."""

    def end(self, cell: Cell, outcome: Outcome) -> None:
        """Note how a cell ended."""


class CellList:
    """The cells of a list, in order."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._waiting = list(reversed(cells))

    def next(self) -> Cell | None:
        """The next cell of the list."""
        return self._waiting.pop() if self._waiting else None

    def why_prune(self, run: CellRun) -> str | None:  # noqa: ARG002
        """No cell is pruned."""
        return None

    def end(self, cell: Cell, outcome: Outcome) -> None:
        """Nothing to note."""


def supervise(
    folder: SweepFolder,
    source: Source,
    executor: Executor,
    view: View,
    make_run: Callable[[Cell], CellRun],
) -> int:
    """Run the cells of `source`; returns 0, or 128 + the signal that stopped the sweep.

    A cell for which `make_run` raises ConfigError is recorded as failed, and the rest goes on.
    """
    running: dict[str, CellRun] = {}
    pruned: dict[str, str] = {}
    with _collected_signals() as received:
        passed_on = 0
        while True:
            while not received and executor.has_room() and (cell := source.next()) is not None:
                try:
                    run = make_run(cell)
                except ConfigError as error:  # a search may draw an invalid combination
                    source.end(cell, _refuse(folder, view, cell, str(error)))
                    continue
                if run.is_complete():
                    source.end(cell, _record(folder, view, run, Outcome(state="finished")))
                    continue
                folder.set_state(cell.name, "running")
                view.began(run)
                executor.start(run)
                running[cell.name] = run
            if not running:
                break
            for name, outcome in executor.ended():
                cell = folder.records[name].cell
                if outcome.stopped and name in pruned:
                    outcome = Outcome(state="pruned", reason=pruned[name])  # noqa: PLW2901
                outcome = _record(folder, view, running.pop(name), outcome)  # noqa: PLW2901
                source.end(cell, outcome)
            for name in running.keys() - pruned.keys():
                reason = source.why_prune(running[name])
                if reason is not None:
                    pruned[name] = reason
                    executor.stop(name)
            for _ in received[passed_on:]:
                for name in running:
                    executor.stop(name)
            passed_on = len(received)
            view.refresh()
            time.sleep(_POLL_SECONDS)
    return 128 + received[0] if received else 0


def _record(folder: SweepFolder, view: View, run: CellRun, outcome: Outcome) -> Outcome:
    folder.set_state(run.name, outcome.state, outcome.reason)
    view.ended(run, outcome)
    return outcome


def _refuse(folder: SweepFolder, view: View, cell: Cell, reason: str) -> Outcome:
    """Record a cell whose settings are invalid."""
    folder.set_state(cell.name, "failed", reason)
    view.refused(cell, reason)
    return Outcome(state="failed", reason=reason)


@contextlib.contextmanager
def _collected_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM that arrive within the block, oldest first."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Run the cells of a sweep, so many at a time, and record what becomes of each."""

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
    """Where cells run."""

    def has_room(self) -> bool:
        """Whether another cell can begin."""

    def start(self, run: CellRun) -> None:
        """Begin a cell, or go on with it."""

    def ended(self) -> Sequence[tuple[str, Outcome]]:
        """The cells that have ended since the last call."""

    def stop(self, name: str) -> None:
        """Ask a cell to save and end; a second time: to end at once."""


class Source(Protocol):
    """Where cells come from."""

    def next(self) -> Cell | None:
        """The cell to run next; None: there is none for now."""

    def hopeless(self, run: CellRun) -> str | None:
        """Why a running cell is not worth going on with, judged by what it has written; None: it is."""

    def end(self, cell: Cell, outcome: Outcome) -> None:
        """Learn what became of a cell."""


class CellList:
    """The cells of a list, in its order."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._waiting = list(reversed(cells))

    def next(self) -> Cell | None:
        """The next of the list."""
        return self._waiting.pop() if self._waiting else None

    def hopeless(self, run: CellRun) -> str | None:  # noqa: ARG002
        """Each cell is run to its end."""
        return None

    def end(self, cell: Cell, outcome: Outcome) -> None:
        """Nothing to learn."""


def supervise(
    folder: SweepFolder,
    source: Source,
    executor: Executor,
    view: View,
    make_run: Callable[[Cell], CellRun],
) -> int:
    """Run what `source` gives; 0, or 128 + the signal that stopped the sweep.

    A cell for which `make_run` raises ConfigError is recorded as failed, and the rest goes on.
    """
    running: dict[str, CellRun] = {}
    pruned: dict[str, str] = {}
    with _listening() as received:
        told = 0
        while True:
            while not received and executor.has_room() and (cell := source.next()) is not None:
                try:
                    run = make_run(cell)
                except ConfigError as error:  # a search may draw settings that do not go together
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
                reason = source.hopeless(running[name])
                if reason is not None:
                    pruned[name] = reason
                    executor.stop(name)
            for _ in received[told:]:
                for name in running:
                    executor.stop(name)
            told = len(received)
            view.refresh()
            time.sleep(_POLL_SECONDS)
    return 128 + received[0] if received else 0


def _record(folder: SweepFolder, view: View, run: CellRun, outcome: Outcome) -> Outcome:
    folder.set_state(run.name, outcome.state, outcome.reason)
    view.ended(run, outcome)
    return outcome


def _refuse(folder: SweepFolder, view: View, cell: Cell, reason: str) -> Outcome:
    """Record a cell that no run can be made of."""
    folder.set_state(cell.name, "failed", reason)
    view.refused(cell, reason)
    return Outcome(state="failed", reason=reason)


@contextlib.contextmanager
def _listening() -> Iterator[list[int]]:
    """The signals to stop that came in meanwhile, oldest first."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

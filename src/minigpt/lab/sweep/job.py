"""A sweep to be run by an engine: its cells, their commands, and the resources of each."""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

from rich.console import Console

from minigpt.errors import TrainingError
from minigpt.lab.sweep.cell import CellRun
from minigpt.lab.sweep.file import Cell, words_of
from minigpt.lab.sweep.folder import State, SweepFolder
from minigpt.lab.sweep.run import CellList, Executor, Source, supervise
from minigpt.lab.sweep.search import Search, best_trial
from minigpt.lab.sweep.search_space import SearchSpace
from minigpt.lab.sweep.slots import (
    Slots,
    check_shares,
    has_apple_gpu,
    share_out,
    threads_wanted,
    undivided,
    visible_gpus,
)
from minigpt.lab.sweep.view import LiveView, PlainView, View

_AGAIN = {"diverged", "failed"}
_BUSY = {"waiting"}
"""A cell that still waits when the sweep was not stopped: another process trains it."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A sweep to be run, and the options of the command."""

    folder: SweepFolder
    make_run: Callable[[Cell], CellRun]
    console: Console
    command: Sequence[str]
    """The arguments of `minigpt` that name this sweep, for a script that starts it again."""
    jobs: int | None
    """Cells at a time; None: as many as fit."""
    gpus_per_cell: int | None
    """None: as the config says, if there are GPUs."""
    cpus_per_cell: int | None
    """Cores; None: $OMP_NUM_THREADS, or the default of the engine."""
    accelerator: str
    """trainer.accelerator."""
    devices: int
    """trainer.devices if it is a number, else 1."""
    retry: bool
    """Whether failed and diverged cells are run again."""
    address: str | None
    """HOST:PORT of a Ray cluster."""

    def to_do(self) -> list[Cell]:
        """The cells still to be run; a finished one whose last checkpoint is gone is run again."""
        left = []
        for record in self.folder.current():
            waits = record.state in {"waiting", "running"} or record.out_of_time
            waits |= self.retry and record.state in _AGAIN
            if waits or (record.state == "finished" and not self.make_run(record.cell).is_complete()):
                left.append(record.cell)
        return left

    def n_cells(self) -> int:
        """The number of cells, including the trials that a search has not made yet."""
        search = self.folder.sweep.search
        return max(search.trials if search else 0, len(self.folder.records))

    @property
    def wants_gpu(self) -> bool:
        """Whether the config allows or requires a GPU."""
        return self.accelerator != "cpu"

    @property
    def threads(self) -> int | None:
        """Threads of a cell, if set by an option or the environment."""
        return self.cpus_per_cell or threads_wanted()

    def slots(self) -> Slots:
        """Divide this machine among the cells; an Apple GPU is a single slot.

        Raises ConfigError if a cell is to have more than the machine has; those of a cluster are not known here.
        """
        gpus = self._gpus()
        if self.address is None:
            check_shares(n_gpus=len(gpus), gpus_per_cell=self.gpus_per_cell, cpus_per_cell=self.cpus_per_cell)
        alone = self.wants_gpu and not gpus and has_apple_gpu()
        return share_out(
            self.jobs or (1 if alone else None),
            n_cells=self.n_cells(),
            gpus=gpus,
            gpus_per_cell=self.gpus_per_cell or self.devices,
            threads=self.threads,
        )

    def whole(self) -> Slots:
        """One slot with all of this machine, or of a batch job's share of it."""
        return undivided(self._gpus(), self.threads)

    def _gpus(self) -> list[str]:
        return visible_gpus() if self.wants_gpu and self.gpus_per_cell != 0 else []

    def run(self, executor: Executor, cells: Sequence[Cell] | None = None) -> int:
        """Run `cells`, or all that are to be run, by `executor`; returns the exit code.

        The caller holds the folder's lock, or runs a single cell. A search goes on after failed trials, and raises
        TrainingError if every one failed.
        """
        source = CellList(cells) if cells is not None else self._source()
        with self._view() as view:
            code = supervise(self.folder, source, executor, view, self.make_run)
        search = self.folder.sweep.search
        best = best_trial(self.folder.path) if search else None
        if cells is None:
            self._print_summary(best, stopped=code != 0)
        if search and best is None and not code:
            raise TrainingError(self._no_trial(search))
        names = [cell.name for cell in cells] if cells is not None else [r.cell.name for r in self.folder.current()]
        wrong = _BUSY if search else _BUSY | _AGAIN
        return code or int(any(self.folder.records[name].state in wrong for name in names))

    def _no_trial(self, search: SearchSpace) -> str:
        """The error of a search without a result, with the reason of its last failed trial."""
        records = self.folder.current()
        reason = next((record.reason for record in reversed(records) if record.reason), None)
        why = f"; {reason}" if reason else ""
        return f"{self.folder.path}: none of the {len(records)} trials reached a {search.metric}{why}"

    def _print_summary(self, best: tuple[str, float] | None, *, stopped: bool) -> None:
        """Print the number of cells in each state, the best trial, and what to do next."""
        counts = Counter(record.state for record in self.folder.current())
        words = [f"{counts[state]} {state}" for state in get_args(State) if counts[state]]
        lines = [f"{self.folder.path}: {', '.join(words)}"]
        if best is not None:
            name, value = best
            overrides = next(each.cell for each in self.folder.records.values() if each.cell.group == name).overrides
            lines.append(f"best: {name}, {value:.4f}, {shlex.join(words_of(overrides))}")
        if stopped:
            lines.append("stopped: the same command resumes")
        elif counts["waiting"]:
            lines.append(f"{counts['waiting']} busy elsewhere: the same command checks them again")
        out_of_time = sum(record.out_of_time for record in self.folder.current())
        if out_of_time and not stopped:
            lines.append(f"{out_of_time} stopped at their time limit: the same command resumes them")
        if counts.keys() & _AGAIN and not self.folder.sweep.search:
            lines.append("--retry runs failed and diverged cells again")
        for line in lines:
            self.console.print(line, markup=False, soft_wrap=True)

    def _source(self) -> Source:
        search = self.folder.sweep.search
        return Search(search, self.folder) if search else CellList(self.to_do())

    @contextmanager
    def _view(self) -> Iterator[View]:
        if not self.console.is_terminal:
            yield PlainView(self.console, self.folder.records, self.n_cells)
            return
        with LiveView(self.console, self.folder.records, self.n_cells, self.make_run) as view:
            yield view

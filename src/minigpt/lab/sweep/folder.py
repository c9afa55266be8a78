"""The folder of a sweep, runs/SWEEP/: the record of its cells (`sweep.json`), its base config, and its lock."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from filelock import FileLock, Timeout

from minigpt.errors import ConfigError
from minigpt.lab.sweep.file import Cell, Sweep
from minigpt.lab.sweep.record import FORMAT, RECORD_LOCK
from minigpt.runs.ownership import is_sweep
from minigpt.runs.paths import LOCK, LOCK_PATIENCE, SWEEP
from minigpt.runs.status import TIME_LIMIT, is_locked
from minigpt.system.files import atomic_write, remove_leftovers, written_as

State = Literal["waiting", "running", "finished", "stopped", "diverged", "failed", "pruned"]
BASE = "base.yaml"
"""A copy of the base config that the cells are trained with, even if the original changes."""


@dataclass
class CellRecord:
    """A cell and its state."""

    cell: Cell
    state: State = "waiting"
    reason: str | None = None

    @property
    def out_of_time(self) -> bool:
        """Whether its last session ended at its time limit; the next one starts a new one."""
        return self.state == "stopped" and (self.reason or "").startswith(TIME_LIMIT)

    def to_dict(self) -> dict[str, Any]:
        """The cell as written in sweep.json."""
        return {**asdict(self.cell), "state": self.state, "reason": self.reason}


class SweepFolder:
    """The record of a sweep on disk. `sweep.json` is replaced as a whole at each change, under its own lock: the tasks
    of a SLURM array write it concurrently."""

    def __init__(self, path: Path, sweep: Sweep, base_yaml: str) -> None:
        """Read the record, if there is one; nothing is written. Raises ConfigError if `path` holds anything else."""
        self.path = path
        self.sweep = sweep
        self.base_yaml = base_yaml
        self.records = self._merged()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this sweep, with the record up to date; raises ConfigError if another process runs it."""
        self.prepare()
        try:
            with FileLock(self.path / LOCK, timeout=LOCK_PATIENCE):  # a reader holds it for a moment
                with self._record_lock():  # no task of an array is writing meanwhile
                    remove_leftovers(self.path, {SWEEP, BASE}.__contains__)
                    self._reset_dead_cells()
                yield
        except Timeout as error:
            raise ConfigError(f"{self.path}: another process is running this sweep") from error

    def _reset_dead_cells(self) -> None:
        """Set cells to waiting that are recorded as running but are not trained: their process was killed."""
        self.records = self._merged()  # since `prepare` a task of an array may have recorded more
        for name, record in self.records.items():
            if record.state == "running" and not is_locked(self.path / name):
                record.state = "waiting"
        self._write()

    def prepare(self) -> None:
        """Create the folder and write new cells into the record."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the sweep's folder {self.path} cannot be made: {error.strerror}") from error
        with self._record_lock():
            self.records = self._merged()
            self._write()  # first: this file identifies the folder of a sweep
            if not (self.path / BASE).exists():
                atomic_write(self.path / BASE, self.base_yaml)

    def add(self, cell: Cell) -> None:
        """Add a cell of a search to the record."""
        with self._record_lock():
            self.records.setdefault(cell.name, CellRecord(cell))
            self._write()

    def set_state(self, name: str, state: State, reason: str | None = None) -> None:
        """Record the state of a cell, keeping what other processes recorded of other cells."""
        with self._record_lock():
            for other, record in self._read().items():
                self.records[other] = record
            self.records[name].state, self.records[name].reason = state, reason
            self._write()

    def current(self) -> list[CellRecord]:
        """The cells that the sweep file names now, in the fixed order of the record; all cells of a search."""
        wanted = {cell.name for cell in self.sweep.cells} or self.records.keys()
        return [record for name, record in self.records.items() if name in wanted]

    def _record_lock(self) -> FileLock:
        return FileLock(self.path / RECORD_LOCK)

    def _merged(self) -> dict[str, CellRecord]:
        """The recorded cells, then new ones of the file; raises ConfigError for a cell that was changed."""
        records = self._read()
        for cell in self.sweep.cells:
            known = records.setdefault(cell.name, CellRecord(cell)).cell
            if (known.overrides, known.seed) != (_plain(cell.overrides), cell.seed):
                raise ConfigError(
                    f"{self.path}: cell {cell.name} had {json.dumps(known.overrides)} and has "
                    f"{json.dumps(cell.overrides)} now: give the sweep another name, or the cell"
                )
        return records

    def _read(self) -> dict[str, CellRecord]:
        path = self.path / SWEEP
        if path.exists() and not is_sweep(self.path):
            raise ConfigError(f"{path} was not written by minigpt sweep: give the sweep another name")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._refuse_foreign_files()
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        try:
            self._refuse_change(content)
            return {record.cell.name: record for record in map(_record, content["cells"])}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{path} is not the record of a sweep: {error!r}") from error

    def _refuse_foreign_files(self) -> None:
        """Raise ConfigError unless the folder is empty, or was just made by a sweep that was killed."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file: the sweep's folder must have another name")
        names = {written_as(found.name) for found in self.path.iterdir()} if self.path.exists() else set()
        others = sorted(names - {LOCK, RECORD_LOCK, BASE, SWEEP})
        if BASE in names and not others and self._begun_with() != self.base_yaml:
            others = [BASE]
        if others:
            raise ConfigError(f"{self.path} holds something else than a sweep, {others[0]}: give this one another name")

    def _begun_with(self) -> str:
        return (self.path / BASE).read_text(encoding="utf-8", errors="replace") if (self.path / BASE).exists() else ""

    def _refuse_change(self, content: dict[str, Any]) -> None:
        """Raise ConfigError if anything that all cells share has changed."""
        if content["format"] != FORMAT:
            raise ConfigError(f"{self.path / SWEEP} has format {content['format']}, this version reads {FORMAT}")
        then = (self.path / BASE).read_text(encoding="utf-8") if (self.path / BASE).exists() else self.base_yaml
        if yaml.safe_load(then) != yaml.safe_load(self.base_yaml):
            raise ConfigError(
                f"{self.sweep.base_path} has changed since {self.path / BASE}, which its cells are trained with: "
                "give the sweep another name"
            )
        for what, now in (("overrides", self.sweep.overrides), ("search", _search(self.sweep))):
            # A search may get more trials.
            old, new = (_without_trials(value) for value in (content[what], _plain(now)))
            if old != new:
                then, after = json.dumps(old), json.dumps(new)
                raise ConfigError(f"{self.path}: {what} was {then} and is {after} now: give the sweep another name")

    def _write(self) -> None:
        content = {
            "format": FORMAT,
            "name": self.sweep.name,
            "base": self.sweep.base,
            "seeds": list(self.sweep.seeds),
            "overrides": self.sweep.overrides,
            "search": _search(self.sweep),
            "cells": [record.to_dict() for record in self.records.values()],
        }
        atomic_write(self.path / SWEEP, json.dumps(content, indent=2) + "\n")


def _record(content: dict[str, Any]) -> CellRecord:
    if content["state"] not in get_args(State):
        raise ValueError(f"state {content['state']}")
    cell = Cell(**{key: content[key] for key in ("name", "group", "overrides", "seed")})
    return CellRecord(cell, content["state"], content["reason"])


def _plain(value: Any) -> Any:
    """The value after a round trip through JSON."""
    return json.loads(json.dumps(value))


def _search(sweep: Sweep) -> dict[str, Any] | None:
    return sweep.search.to_dict() if sweep.search else None


def _without_trials(value: Any) -> Any:
    return {key: inner for key, inner in value.items() if key != "trials"} if isinstance(value, dict) else value

"""Read the record of a sweep, `sweep.json`, to find its runs; folder.py writes it."""

import contextlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from minigpt.errors import CheckpointError, shown
from minigpt.runs.ownership import is_sweep
from minigpt.runs.paths import SWEEP
from minigpt.runs.status import RunState, is_locked
from minigpt.system.files import atomic_write

FORMAT = 1
BASE_GROUP = "base"
"""The group of the cells that change nothing: the baseline of a comparison."""
RECORD_LOCK = ".record.lock"
"""Lock file in the sweep's folder, held while the record is replaced."""
GONE = "its folder was deleted"
OVER = {"diverged", "failed", "pruned"}
"""States of a cell that a sweep does not run again by itself; they take precedence over the state of its folder."""


class RecordedCell(NamedTuple):
    """A cell as recorded; its run is the folder `name` beside the record."""

    name: str
    group: str
    """Its name without the seed."""
    state: str
    reason: str
    """Why it failed, diverged or was pruned, if known."""


def read_cells(sweep: Path) -> list[RecordedCell]:
    """The cells of the sweep in the folder `sweep`, at least one; raises CheckpointError, one line."""
    path = sweep / SWEEP
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {shown(content['format'])}, this version reads {FORMAT}")
        cells = [
            RecordedCell(str(cell["name"]), str(cell["group"]), str(cell["state"]), str(cell.get("reason") or ""))
            for cell in content["cells"]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {shown(str(error))}") from None
    if not cells:
        raise CheckpointError(f"{path} has no cells")
    return cells


class SweepRecords:
    """The records of sweeps, each read once."""

    def __init__(self) -> None:
        self._cells: dict[Path, dict[str, RecordedCell]] = {}
        self._at_work: dict[Path, bool] = {}

    def cell(self, folder: Path) -> RecordedCell | None:
        """The cell whose run is in `folder`; None if no readable sweep has it."""
        sweep = folder.parent
        if sweep not in self._cells:
            self._cells[sweep] = {}
            if is_sweep(sweep):
                with contextlib.suppress(CheckpointError):
                    self._cells[sweep] = {cell.name: cell for cell in read_cells(sweep)}
        return self._cells[sweep].get(folder.name)

    def state(self, folder: Path, own: RunState) -> RunState:
        """The state of the run in `folder`, given the state `own` that its folder shows.

        The record of the sweep is needed because a cell's process takes the lock of its folder some seconds after it
        was started, and because one that was stopped before its first checkpoint looks like one that failed.
        """
        cell = self.cell(folder)
        if cell is None or own not in {"stopped", "failed"}:
            return own
        if cell.state == "running" and self._is_at_work(folder.parent):
            return "running"
        return "waiting" if own == "failed" and cell.state in {"waiting", "running"} else own

    def _is_at_work(self, sweep: Path) -> bool:
        if sweep not in self._at_work:
            self._at_work[sweep] = is_locked(sweep)
        return self._at_work[sweep]


def forget_run(folder: Path) -> None:
    """Record in the sweep of the run in `folder`, if there is one, that the folder was deleted.

    A cell that failed keeps its state, but its reason, which may name a deleted file, is replaced; any other waits
    again.
    """
    path = folder.parent / SWEEP
    if SweepRecords().cell(folder) is None:
        return
    with FileLock(folder.parent / RECORD_LOCK):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            if cell["name"] == folder.name:
                # A search has used the result of its trial, and does not train it again.
                is_over = cell["state"] in OVER or (cell["state"] == "finished" and content.get("search"))
                cell.update({"reason": GONE} if is_over else {"state": "waiting", "reason": None})
        atomic_write(path, json.dumps(content, indent=2) + "\n")

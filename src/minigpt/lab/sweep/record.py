"""The record of a sweep, `sweep.json`, as those read it who want its runs; folder.py writes it."""

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
"""The group of the cells that change nothing: what the others are compared with."""
RECORD_LOCK = ".record.lock"
"""In the sweep's folder: held while the record is replaced."""
GONE = "its folder was deleted"
OVER = {"diverged", "failed", "pruned"}
"""States of a cell that no sweep runs again by itself: they count for more than what its folder looks like."""


class RecordedCell(NamedTuple):
    """What stands there of a cell; its run is the folder `name` beside the record."""

    name: str
    group: str
    """Its name without the seed."""
    state: str
    reason: str
    """Why it came to nothing; empty: it did not, or nobody knows."""


def read_cells(sweep: Path) -> list[RecordedCell]:
    """The cells of the sweep in the folder `sweep`, one at least; raises CheckpointError, one line."""
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
    """What sweeps say of runs; each sweep is looked at once."""

    def __init__(self) -> None:
        self._cells: dict[Path, dict[str, RecordedCell]] = {}
        self._at_work: dict[Path, bool] = {}

    def cell(self, folder: Path) -> RecordedCell | None:
        """The cell whose run lives in `folder`; None: no sweep that can be read knows of it."""
        sweep = folder.parent
        if sweep not in self._cells:
            self._cells[sweep] = {}
            if is_sweep(sweep):
                with contextlib.suppress(CheckpointError):
                    self._cells[sweep] = {cell.name: cell for cell in read_cells(sweep)}
        return self._cells[sweep].get(folder.name)

    def state(self, folder: Path, own: RunState) -> RunState:
        """The state of the run in `folder`, which by itself looks like `own`.

        A cell's process takes the lock of its folder some seconds after the sweep has begun it, and one that is stopped
        before its first checkpoint leaves nothing, as one that failed: the sweep knows better.
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
    """Tell the sweep of the run in `folder`, if it is one's, that the folder was deleted.

    A cell that went wrong has still done so, but the reason names no file any more; any other waits to be trained.
    """
    path = folder.parent / SWEEP
    if SweepRecords().cell(folder) is None:
        return
    with FileLock(folder.parent / RECORD_LOCK):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            if cell["name"] == folder.name:
                # A search has learnt from its trial, and does not train it again.
                is_over = cell["state"] in OVER or (cell["state"] == "finished" and content.get("search"))
                cell.update({"reason": GONE} if is_over else {"state": "waiting", "reason": None})
        atomic_write(path, json.dumps(content, indent=2) + "\n")

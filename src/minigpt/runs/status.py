"""State of a run: whether a process trains in its folder, or how it ended."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from minigpt.runs.paths import DIVERGENCES, LOCK

RunState = Literal["running", "finished", "stopped", "diverged", "failed", "damaged", "waiting"]
"""running: a process trains in its folder. finished: its last step is done. stopped: a checkpoint is there to go on
from. diverged: its loss or gradient ceased to be finite, or spiked, and nothing came after. failed: it left nothing to
go on from. damaged: its records cannot be read. waiting: it left nothing either, but its sweep has yet to train it."""

TAKEN = "another process is training in this folder"
"""Error of a run whose folder is locked, which a sweep recognises."""

TIME_LIMIT = "time limit"
"""First words of the reason of a run that a limit of time stopped: a sweep resumes it."""

_SNAPSHOT = re.compile(r"step=(\d+)\.pt")


def is_locked(folder: Path) -> bool:
    """Whether a process trains in `folder`. Looking takes the lock for a moment, which a starting run waits for."""
    path = folder / LOCK
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that only others may write in
        return False


def ended(folder: Path, max_steps: int, metrics: Mapping[int, Mapping[str, float]], steps: Sequence[int]) -> RunState:
    """The state of a run that no process trains: `metrics` are its curves by step, `steps` those of its checkpoints."""
    last = max([0, *metrics, *steps])
    if last >= max_steps:
        return "finished" if _is_finite(metrics) else "diverged"
    kept = (folder / DIVERGENCES).glob("step=*.pt")
    snapshots = [int(match[1]) for path in kept if (match := _SNAPSHOT.fullmatch(path.name))]
    # A step that was skipped, or that a resume has got over, has steps after it.
    if max(snapshots, default=-1) > last or not _is_finite(metrics):
        return "diverged"
    return "stopped" if steps else "failed"


def _is_finite(metrics: Mapping[int, Mapping[str, float]]) -> bool:
    """Whether the newest losses are numbers."""
    newest = {name: row[name] for row in metrics.values() for name in ("train/loss", "val/loss") if name in row}
    return all(math.isfinite(value) for value in newest.values())

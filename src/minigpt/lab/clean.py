"""Delete runs: what may go, why the rest is kept, and what a kill interrupted."""

from pathlib import Path

from filelock import FileLock, Timeout

from minigpt.lab.runs import ListedRun, describe_run
from minigpt.lab.sweep.record import SweepRecords, forget_run
from minigpt.runs.ownership import is_run, strangers
from minigpt.runs.paths import LOCK
from minigpt.system.files import remove_folder, remove_gone
from minigpt.system.marks import MARK, write_mark

_SHOWN = 6  # files named in a message


def remove_run(run: ListedRun) -> str | None:
    """Delete the folder of `run` and record that in its sweep; return the reason if it must be kept.

    The run's lock is held meanwhile, so that no training starts in it. A kill leaves either the whole run or nothing
    under its name.
    """
    if (refusal := why_kept(run)) is not None:
        return refusal
    try:
        with FileLock(run.folder / LOCK, timeout=0):
            now = describe_run(run.folder, run.folder.parent, SweepRecords(), locked=True)
            if now.state != run.state:
                return f"it is {now.state} now"
            if (refusal := why_kept(now)) is not None:
                return refusal
            write_mark(run.folder, "run")  # identifies what a kill leaves
            remove_folder(run.folder, last=MARK)
            forget_run(run.folder)
    except Timeout:
        return "it is running now"
    return None


def why_deleted(run: ListedRun) -> str:
    """Explain the state of `run`, for the question before its deletion."""
    if run.reason or run.step is None or run.max_steps is None:
        return run.reason
    done = f"it has done {run.step:,} of {run.max_steps:,} steps"
    reasons = {
        "stopped": f"{done}, with a checkpoint to resume from",
        "diverged": f"{done}; a loss was not finite, or spiked",
    }
    return reasons.get(run.state, done)


def why_kept(run: ListedRun) -> str | None:
    """Why the folder of `run` must not be deleted; None if it may be."""
    if run.folder.is_symlink():
        return "it is a link"
    if run.strangers:
        more = ", ..." if len(run.strangers) > _SHOWN else ""
        return f"it holds {', '.join(run.strangers[:_SHOWN])}{more}, which no run writes: move that away first"
    if Path.cwd().is_relative_to(run.folder.resolve()):
        return "it is the working folder"
    return None if is_run(run.folder) else "it is not a run any more"


def remove_leftovers_below(root: Path) -> None:
    """Finish deletions that a kill interrupted."""
    for folder in {root, *(path.parent for path in root.glob("**/.*.gone-*"))}:
        remove_gone(folder, MARK, lambda leftover: is_run(leftover) and not strangers(leftover))

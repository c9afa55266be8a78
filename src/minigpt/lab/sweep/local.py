"""Run cells as processes on this machine."""

from collections.abc import Sequence

from minigpt.errors import ConfigError
from minigpt.lab.sweep.cell import CellRun, CellSession, Outcome
from minigpt.lab.sweep.job import Job
from minigpt.lab.sweep.slots import Slots


class LocalExecutor:
    """Run one process in each slot."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._taken: dict[int, CellSession] = {}

    def has_room(self) -> bool:
        """Whether a slot is free."""
        return len(self._taken) < len(self._slots)

    def start(self, run: CellRun) -> None:
        """Take the first free slot; the cell may have to wait there for its folder."""
        slot = next(slot for slot in range(len(self._slots)) if slot not in self._taken)
        self._taken[slot] = CellSession(run, self._slots.environment(slot))

    def ended(self) -> Sequence[tuple[str, Outcome]]:
        """The cells that have ended, or whose folder another process keeps; their slots are free again."""
        found = []
        for slot, session in list(self._taken.items()):
            outcome = session.poll()
            if outcome is not None:
                found.append((session.run.name, outcome))
                del self._taken[slot]
        return found

    def stop(self, name: str) -> None:
        """Send SIGTERM."""
        for session in self._taken.values():
            if session.run.name == name:
                session.stop()


def run_local(job: Job) -> int:
    """Run the sweep on this machine; returns the exit code."""
    slots = job.slots()
    with job.folder.locked():
        return job.run(LocalExecutor(slots))


def run_one(job: Job, number: int) -> int:
    """Run one cell, by its position in sweep.json, as a task of a job array does; returns the exit code.

    Other processes may run other cells of the sweep at the same time. The cell gets all cores and GPUs that this
    process may use.
    """
    job.folder.prepare()
    records = list(job.folder.records.values())
    if not 0 <= number < len(records):
        raise ConfigError(f"--cell {number}: {job.folder.path} has cells 0 to {len(records) - 1}")
    record = records[number]
    cell = record.cell
    if cell not in job.to_do():
        job.console.print(
            f"{record.state:<9} {cell.name}  {record.reason or ''}".rstrip(), highlight=False, markup=False
        )
        return int(record.state in {"failed", "diverged"})
    return job.run(LocalExecutor(job.whole()), [cell])

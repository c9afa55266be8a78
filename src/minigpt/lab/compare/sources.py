"""Find the runs that paths name: run folders, names under runs/, a sweep's folder, or a folder of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import CheckpointError, did_you_mean
from minigpt.lab.sweep.record import GONE, OVER, RecordedCell, SweepRecords, read_cells
from minigpt.runs.ownership import find_runs, is_run, is_sweep
from minigpt.runs.paths import METRICS
from minigpt.runs.records import RunRecord, read_run


class SweepGroup(NamedTuple):
    """A group of a sweep: runs that differ only in the seed. Another sweep may use the same name for others."""

    sweep: Path
    name: str


_WITHOUT_CURVES = {
    "running": "it has just begun, no curves yet",
    "waiting": "it has not begun",
    "stopped": "it ended before its first validation",
}


@dataclass(frozen=True, kw_only=True)
class RunSource:
    """One requested run."""

    folder: Path
    group: SweepGroup | None = None
    """None: it belongs to no sweep."""
    record: RunRecord | None = None
    """None: it cannot be read, or its state says enough."""
    state: str
    reason: str = ""
    """Why it cannot be compared; empty: it can."""


def find_sources(paths: Sequence[str | Path]) -> list[RunSource]:
    """Find the runs in `paths`, each once, in the order given; raises CheckpointError for a path that is no run."""
    found: dict[Path, RunSource] = {}
    for path in paths:
        for source in _sources(_located(Path(path))):
            known = found.get(source.folder.resolve())
            if known is None or known.group is None:  # its sweep knows more of it
                found[source.folder.resolve()] = source
    return list(found.values())


def disambiguate(folders: Sequence[Path]) -> list[str]:
    """A unique name for each folder, with as many parent folders as needed: `a/base` and `b/base`.

    All folders beside one that needs its parents get them too, so that no bare name is ambiguous to a reader.
    """
    whole = [folder.absolute() for folder in folders]
    needed: dict[Path, int] = {}
    for folder in dict.fromkeys(whole):
        alike = [other for other in whole if other.name == folder.name and other != folder]
        parts = next(n for n in count(1) if all(other.parts[-n:] != folder.parts[-n:] for other in alike))
        needed[folder.parent] = max(parts, needed.get(folder.parent, 1))
    return ["/".join(folder.parts[-needed[folder.parent] :]) for folder in whole]


def located_sweep(paths: Sequence[str | Path]) -> Path | None:
    """The folder of the sweep, if `paths` is a single sweep."""
    folders = [_located(Path(path)) for path in paths]
    return folders[0] if len(folders) == 1 and is_sweep(folders[0]) else None


def _located(path: Path) -> Path:
    """`path` itself, or under runs/ where it is a bare name."""
    if not path.exists() and len(path.parts) == 1 and (Path("runs") / path).is_dir():
        return Path("runs") / path
    if not path.exists():
        folders = [path.parent, *([Path("runs")] if len(path.parts) == 1 else [])]
        names = [child.name for folder in folders if folder.is_dir() for child in folder.iterdir()]
        raise CheckpointError(f"no run or sweep at {path}{did_you_mean(path.name, names)}")
    return path


def _sources(path: Path) -> list[RunSource]:
    if is_sweep(path):
        return _cells(path)
    if path.is_dir() and not is_run(path):
        folders = list(find_runs(path))
        if folders:
            sweeps = SweepRecords()
            return _leave_out_unfinished([_found(folder, sweeps) for folder in folders])
    record = read_run(path)
    source = _with_reason(RunSource(folder=path, record=record, state=SweepRecords().state(path, record.state)))
    if not record.metrics:
        raise CheckpointError(f"{path} holds no curves: {source.reason} (it is {source.state})")
    return [source]


def _cells(sweep: Path) -> list[RunSource]:
    """The cells of a sweep, including those without a folder."""
    sweeps = SweepRecords()
    return _leave_out_unfinished([_cell(sweep, cell, sweeps) for cell in read_cells(sweep)])


def _leave_out_unfinished(sources: list[RunSource]) -> list[RunSource]:
    """Leave out unfinished runs if others are finished: one that has just begun would cut all curves short."""
    if not any(source.state == "finished" and not source.reason for source in sources):
        return sources
    return [
        source
        if source.record is None or source.reason or source.state == "finished"
        else replace(source, reason=_how_far(source.record))
        for source in sources
    ]


def _how_far(record: RunRecord) -> str:
    early = f", stopped early: {record.stopped_early}" if record.stopped_early else ""
    return f"it has done {record.step} of {record.max_steps} steps{early}"


def _found(folder: Path, sweeps: SweepRecords) -> RunSource:
    """A run in a folder of runs; if it is a cell of a sweep, the record of the sweep counts."""
    cell = sweeps.cell(folder)
    return _listed(folder, None, sweeps) if cell is None else _cell(folder.parent, cell, sweeps)


def _cell(sweep: Path, cell: RecordedCell, sweeps: SweepRecords) -> RunSource:
    folder, group = sweep / cell.name, SweepGroup(sweep, cell.group)
    if cell.state in OVER:
        reason = cell.reason or "the sweep gives no reason"
        return RunSource(folder=folder, group=group, state=cell.state, reason=reason)
    if not is_run(folder):
        reason = GONE if cell.state == "finished" else "it has not begun"
        return RunSource(folder=folder, group=group, state=cell.state, reason=reason)
    return _listed(folder, group, sweeps)


def _listed(folder: Path, group: SweepGroup | None, sweeps: SweepRecords) -> RunSource:
    """A run among others: an error in it becomes its reason."""
    try:
        record = read_run(folder)
        state = sweeps.state(folder, record.state)
        source = _with_reason(RunSource(folder=folder, group=group, record=record, state=state))
        if not source.reason:
            _ = record.model  # raises if it is not known yet: a run that has just begun has no tokenizer
    except CheckpointError as error:
        return RunSource(folder=folder, group=group, state="damaged", reason=str(error))
    return source


def _with_reason(source: RunSource) -> RunSource:
    """Add the reason if there is no curve that could be compared."""
    assert source.record is not None
    reason = ""
    if source.state == "diverged":
        reason = f"its losses are no numbers, or its step {source.record.step + 1} was stopped"
    elif not source.record.metrics:
        reason = _WITHOUT_CURVES.get(source.state, f"its {METRICS} is missing or empty")
    elif not any("val/loss" in row for row in source.record.metrics.values()):
        reason = "it has no validation yet" if source.state == "running" else "it ended before its first validation"
    elif not source.record.knows_end:
        reason = source.record.note
    return replace(source, reason=reason)

"""Which runs are meant: run folders, names under runs/, a sweep's folder, a folder of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import CheckpointError, did_you_mean
from minigpt.layout import METRICS
from minigpt.records import RunRecord, find_runs, is_run, read_run
from minigpt.study.sweep_record import RecordedCell, is_sweep, read_cells

_OVER = {"diverged", "failed", "pruned"}
"""States of a cell whose record counts for more than what its folder looks like."""


class SweepGroup(NamedTuple):
    """What a sweep calls runs that differ in nothing but the seed; another sweep may mean others by the same name."""

    sweep: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class RunSource:
    """One run that was asked for."""

    folder: Path
    group: SweepGroup | None = None
    """None: it belongs to no sweep."""
    record: RunRecord | None = None
    """None: it cannot be read, or need not be."""
    state: str
    reason: str = ""
    """Why it cannot be compared; empty: it can."""


def find_sources(paths: Sequence[str | Path]) -> list[RunSource]:
    """The runs that `paths` mean, each once, in the order given; raises CheckpointError for what is none."""
    found: dict[Path, RunSource] = {}
    for path in paths:
        for source in _sources(_located(Path(path))):
            known = found.get(source.folder.resolve())
            if known is None or known.group is None:  # its sweep knows more of it
                found[source.folder.resolve()] = source
    return list(found.values())


def told_apart(folders: Sequence[Path]) -> list[str]:
    """The name of each folder, behind as many of those above it as tell it from the others: `a/base` and `b/base`."""
    whole = [folder.absolute() for folder in folders]

    def told(folder: Path) -> str:
        alike = [other for other in whole if other.name == folder.name and other != folder]
        parts = next(n for n in count(1) if all(other.parts[-n:] != folder.parts[-n:] for other in alike))
        return "/".join(folder.parts[-parts:])

    return [told(folder) for folder in whole]


def located_sweep(paths: Sequence[str | Path]) -> Path | None:
    """The folder of the sweep, if `paths` is one and nothing else."""
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
            return _finished_ones([_listed(folder) for folder in folders])
    record = read_run(path)
    if not record.metrics:
        raise CheckpointError(f"{path} holds no curves: its {METRICS} is missing or empty (it is {record.state})")
    return [_judged(RunSource(folder=path, record=record, state=record.state))]


def _cells(sweep: Path) -> list[RunSource]:
    """The cells of a sweep, those without a folder too."""
    return _finished_ones([_cell(sweep, cell) for cell in read_cells(sweep)])


def _finished_ones(sources: list[RunSource]) -> list[RunSource]:
    """Without the runs that are not finished, where others are: what has just begun would cut all curves short."""
    if not any(source.state == "finished" and not source.reason for source in sources):
        return sources
    return [
        source
        if source.record is None or source.reason or source.state == "finished"
        else replace(source, reason=f"it has done {source.record.step} of {source.record.max_steps} steps")
        for source in sources
    ]


def _cell(sweep: Path, cell: RecordedCell) -> RunSource:
    folder, group = sweep / cell.name, SweepGroup(sweep, cell.group)
    if cell.state in _OVER:
        reason = cell.reason or "the sweep gives no reason"
        return RunSource(folder=folder, group=group, state=cell.state, reason=reason)
    if not is_run(folder):
        return RunSource(folder=folder, group=group, state=cell.state, reason="it has not begun")
    return _listed(folder, group)


def _listed(folder: Path, group: SweepGroup | None = None) -> RunSource:
    """A run among others: what is wrong with it is told beside them."""
    try:
        record = read_run(folder)
        _ = record.model  # it can be known
    except CheckpointError as error:
        return RunSource(folder=folder, group=group, state="damaged", reason=str(error))
    return _judged(RunSource(folder=folder, group=group, record=record, state=record.state))


def _judged(source: RunSource) -> RunSource:
    """With the reason, if it has no curve that could be compared."""
    assert source.record is not None
    reason = ""
    if source.state == "diverged":
        reason = f"its losses are no numbers, or its step {source.record.step + 1} was stopped"
    elif not source.record.metrics and source.state != "running":
        reason = f"its {METRICS} is missing or empty"
    elif not any("val/loss" in row for row in source.record.metrics.values()):
        reason = "it has no validation yet" if source.state == "running" else "it ended before its first validation"
    return replace(source, reason=reason)

"""Which runs are meant: run folders, names under runs/, a sweep's folder, a folder of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from minigpt.errors import CheckpointError, did_you_mean
from minigpt.layout import METRICS
from minigpt.records import RunRecord, find_runs, is_run, read_run
from minigpt.study.sweep_record import RecordedCell, is_sweep, read_cells

_OVER = {"diverged", "failed", "pruned"}
"""States of a cell whose record counts for more than what its folder looks like."""


@dataclass(frozen=True, kw_only=True)
class RunSource:
    """One run that was asked for, or the reason why it cannot be compared."""

    folder: Path
    group: str = ""
    """A sweep's name for it; empty: it belongs to none."""
    record: RunRecord | None = None
    state: str
    reason: str = ""

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.folder.name


def find_sources(paths: Sequence[str | Path]) -> list[RunSource]:
    """The runs that `paths` mean, each once, in the order given; raises CheckpointError for what is none."""
    found: dict[Path, RunSource] = {}
    for path in paths:
        for source in _sources(_located(Path(path))):
            found.setdefault(source.folder.resolve(), source)
    return list(found.values())


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
    if not any(source.record is not None and source.state == "finished" for source in sources):
        return sources
    return [
        source
        if source.record is None or source.state == "finished"
        else replace(source, record=None, reason=f"it has done {source.record.step} of {source.record.max_steps} steps")
        for source in sources
    ]


def _cell(sweep: Path, cell: RecordedCell) -> RunSource:
    folder = sweep / cell.name
    if cell.state in _OVER:
        reason = cell.reason or "the sweep gives no reason"
        return RunSource(folder=folder, group=cell.group, state=cell.state, reason=reason)
    if not is_run(folder):
        return RunSource(folder=folder, group=cell.group, state=cell.state, reason="it has not begun")
    return _listed(folder, cell.group)


def _listed(folder: Path, group: str = "") -> RunSource:
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
    if not reason:
        return source
    return RunSource(folder=source.folder, group=source.group, state=source.state, reason=reason)

"""Every run under a folder: listed, sorted, filtered, and cleaned away."""

import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from filelock import FileLock, Timeout

from minigpt.errors import CheckpointError, ConfigError, did_you_mean
from minigpt.lab.compare.groups import NO_DIFFERENCE, differing_keys
from minigpt.lab.compare.labels import setting_text, told
from minigpt.lab.sweep.record import SweepRecords, forget_run
from minigpt.runs.ownership import is_run, strangers
from minigpt.runs.paths import CONFIG, LOCK
from minigpt.runs.records import RunRecord, find_runs, flat_settings, folder_bytes, read_run
from minigpt.runs.status import RunState
from minigpt.system.files import remove_folder, remove_gone
from minigpt.system.marks import MARK, write_mark
from minigpt.system.tables import Table
from minigpt.system.units import bytes_text, clock_text

_VALUES = 6  # that are shown of a setting
_FEW = 4  # settings that are shown of a run
_DIFFERS = "what differs"
SortKey = Literal["loss", "age", "size", "name"]


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """One run, as the list shows it."""

    name: str
    """Its folder below the one that is listed: `base`, `ablation/rotary-s1`."""
    folder: Path
    state: RunState
    age: float
    """Seconds since its first session began, or since its config was written."""
    step: int | None
    max_steps: int | None
    loss: float | None
    """Of its last validation, nats per token."""
    bytes: int
    settings: dict[str, Any]
    """Flat."""
    reason: str
    """What is wrong with a damaged one, or why another ended before its last step, where that is known."""

    def __repr__(self) -> str:
        """One line."""
        step = "" if self.step is None else f", step {self.step:,} of {self.max_steps:,}"
        loss = "" if self.loss is None else f", loss {self.loss:.4f}"
        return f"run {self.name}: {self.state}{step}{loss}, {bytes_text(self.bytes)}"

    note: str = ""
    """That its curves were cut short."""
    strangers: tuple[str, ...] = ()
    """What lies in its folder that no run writes: with it the folder is never deleted."""


def list_runs(root: Path) -> list[ListedRun]:
    """All runs in `root` and below, by name; raises ConfigError where `root` is no folder of runs."""
    if not root.is_dir():
        near = did_you_mean(root.name, [path.name for path in root.parent.glob("*") if path.is_dir()])
        raise ConfigError(f"no folder {root} that holds runs{near}")
    if is_run(root):
        raise ConfigError(f"{root} is a run itself: runs takes the folder that holds it")
    sweeps = SweepRecords()
    return [_listed(folder, root, sweeps) for folder in find_runs(root)]


def sort_runs(runs: Iterable[ListedRun], key: SortKey) -> list[ListedRun]:
    """The lowest loss, the youngest, the largest, or the first letter first; runs without a loss last."""
    return sorted(runs, key=_SORT_KEYS[key])


def filter_runs(runs: Sequence[ListedRun], conditions: Sequence[str]) -> list[ListedRun]:
    """Those that meet every condition: a state, or `key=value` of the config.

    Raises ConfigError for a state or a key that there is none of, with the nearest.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    tests = [_condition(text, keys) for text in conditions]
    return [run for run in runs if all(test(run) for test in tests)]


def why_none(runs: Sequence[ListedRun], conditions: Sequence[str]) -> str:
    """Of what value no run is, and what values there are; empty: each condition by itself is met."""
    for text in conditions:
        key, equals, value = text.partition("=")
        if equals and runs and not filter_runs(runs, [text]):
            values = list(dict.fromkeys(told(run.settings[key]) for run in runs if key in run.settings))
            more = ", ..." if len(values) > _VALUES else ""
            near = did_you_mean(value, values)
            return f": {key} is {', '.join(values[:_VALUES])}{more}, never {value}{near}"
    return ""


def remove_run(run: ListedRun) -> str | None:
    """Delete the folder of `run` and tell its sweep; gives why not, if it is not the run any more that was listed.

    Its lock is held meanwhile, so nobody begins to train in it. A kill leaves the whole run or none under its name.
    """
    if (refusal := why_kept(run)) is not None:
        return refusal
    try:
        with FileLock(run.folder / LOCK, timeout=0):
            now = _listed(run.folder, run.folder.parent, SweepRecords(), locked=True)
            if now.state != run.state:
                return f"it is {now.state} now"
            if (refusal := why_kept(now)) is not None:
                return refusal
            write_mark(run.folder, "run")  # by which what a kill leaves of it is known
            remove_folder(run.folder, last=MARK)
            forget_run(run.folder)
    except Timeout:
        return "it is running now"
    return None


def why_deleted(run: ListedRun) -> str:
    """Why `run` is what it is, for the question before its deletion."""
    if run.reason or run.step is None or run.max_steps is None:
        return run.reason
    done = f"it has done {run.step:,} of {run.max_steps:,} steps"
    told = {
        "stopped": f"{done}, with a checkpoint to go on from",
        "diverged": f"{done}; a loss is no number, or spiked",
    }
    return told.get(run.state, done)


def why_kept(run: ListedRun) -> str | None:
    """Why the folder of `run` may not be deleted as a whole; None: it may."""
    if run.folder.is_symlink():
        return "it is a link"
    if run.strangers:
        more = ", ..." if len(run.strangers) > _VALUES else ""
        return f"no run writes {', '.join(run.strangers[:_VALUES])}{more}, which lies in it: move it away first"
    if Path.cwd().is_relative_to(run.folder.resolve()):
        return "it is the working folder"
    return None if is_run(run.folder) else "it is no run's any more"


def remove_leftovers_below(root: Path) -> None:
    """Finish what killed clean-ups began."""
    for folder in {root, *(path.parent for path in root.glob("**/.*.gone-*"))}:
        remove_gone(folder, MARK, lambda leftover: is_run(leftover) and not strangers(leftover))


def runs_table(runs: Sequence[ListedRun]) -> Table:
    """For a reader; with a column of what differs between the runs, if anything does."""
    rows: list[Sequence[str]] = [
        (
            run.name,
            run.state,
            clock_text(run.age),
            "–" if run.step is None else f"{run.step:,}/{run.max_steps:,}",
            "–" if run.loss is None else f"{run.loss:.4f}",
            bytes_text(run.bytes),
        )
        for run in runs
    ]
    columns: tuple[str, ...] = ("run", "state", "age", "step", "loss", "size")
    numbers, prose = frozenset(columns[2:]), frozenset[str]()
    if any(differing := _differing(runs)):
        prose = frozenset({_DIFFERS})
        columns, rows = (*columns, _DIFFERS), [(*row, cell) for row, cell in zip(rows, differing, strict=True)]
    return Table(title="", columns=columns, rows=rows, numbers=numbers, prose=prose)


def _differing(runs: Sequence[ListedRun]) -> list[str]:
    """For each run its values of the settings that are not the same in all; where these are many, those that most
    other runs have otherwise."""
    known = [run.settings for run in runs if run.settings]
    if not known:
        return [""] * len(runs)
    # A setting that older configs lack is null in the others: no difference.
    told_apart = differing_keys([{key: value for key, value in each.items() if value is not None} for each in known])
    keys = [key for key in told_apart if key not in NO_DIFFERENCE - {"seed_everything"}]
    usual = {key: Counter(repr(each.get(key)) for each in known).most_common(1)[0][0] for key in keys}
    shown = []
    for run in runs:
        own = [key for key in keys if key in run.settings]
        if len(keys) > _FEW:
            own = [key for key in own if repr(run.settings[key]) != usual[key]]
        values = [setting_text(key, run.settings[key], alone=False) for key in own[:_FEW]]
        shown.append(", ".join(values) + (f" and {len(own) - _FEW} more" if len(own) > _FEW else ""))
    return shown


def as_plain(run: ListedRun) -> dict[str, Any]:
    """For JSON."""
    names = ("name", "state", "age", "step", "max_steps", "loss", "bytes", "reason", "note")
    values = {name: getattr(run, name) for name in names}
    finite = run.loss is not None and math.isfinite(run.loss)
    return values | {"folder": str(run.folder), "loss": run.loss if finite else None}


def _listed(folder: Path, root: Path, sweeps: SweepRecords, *, locked: bool = False) -> ListedRun:
    """`locked`: by this very process, which is no sign of a training."""
    name = str(folder.relative_to(root))
    n_bytes = folder_bytes(folder)
    try:
        record = read_run(folder, look_at_lock=not locked)
    except CheckpointError as error:
        return ListedRun(
            name=name, folder=folder, state="damaged", age=_age(folder, None), step=None, max_steps=None, loss=None,
            bytes=n_bytes, settings={}, reason=str(error), strangers=tuple(strangers(folder)),
        )  # fmt: skip
    losses = [row["val/loss"] for _, row in sorted(record.metrics.items()) if "val/loss" in row]
    return ListedRun(
        name=name,
        folder=folder,
        state=sweeps.state(folder, record.state),
        age=_age(folder, record.started),
        step=record.step,
        max_steps=record.max_steps,
        loss=losses[-1] if losses and record.knows_end else None,
        bytes=n_bytes,
        settings=flat_settings(record.config),
        reason=_why(record, sweeps),
        note=record.note,
        strangers=tuple(strangers(folder)),
    )


def _why(record: RunRecord, sweeps: SweepRecords) -> str:
    """Why a run ended before its last step, as far as anybody knows: its sweep, or its last session."""
    state = sweeps.state(record.folder, record.state)
    if state not in {"failed", "diverged", "stopped"}:
        return ""
    cell = sweeps.cell(record.folder)
    if record.stopped_early:
        return f"stopped early: {record.stopped_early}"
    recorded = record.sessions[-1].get("error") if record.sessions else None
    reason = recorded or (cell.reason if cell else None)
    if not reason and state == "failed":
        return "it ended before its first checkpoint and left no message: it was killed or stopped"
    return str(reason or "")


def _age(folder: Path, started: datetime.datetime | None) -> float:
    config = folder / CONFIG
    written = (config if config.exists() else folder).stat().st_mtime
    began = started or datetime.datetime.fromtimestamp(written, datetime.UTC)
    return max(0.0, (datetime.datetime.now(datetime.UTC) - began).total_seconds())


def _by_loss(run: ListedRun) -> tuple[bool, float]:
    known = run.loss is not None and math.isfinite(run.loss)
    return (not known, run.loss if known and run.loss is not None else 0.0)


_SORT_KEYS: dict[SortKey, Callable[[ListedRun], Any]] = {
    "loss": _by_loss,
    "age": lambda run: run.age,
    "size": lambda run: -run.bytes,
    "name": lambda run: run.name,
}


def _condition(text: str, keys: Sequence[str]) -> Callable[[ListedRun], bool]:
    key, equals, value = text.partition("=")
    states = get_args(RunState)
    if not equals:
        if text not in states:
            near = did_you_mean(text, [*states, *keys])
            raise ConfigError(f"--where {text}: neither a state ({', '.join(states)}) nor KEY=VALUE{near}")
        return lambda run: run.state == text
    if key == "state":
        raise ConfigError(f"--where {text}: a state is written alone, as in --where {value or 'finished'}")
    if keys and key not in keys:
        raise ConfigError(f"--where {text}: no run has a setting {key}{did_you_mean(key, keys)}")
    return lambda run: key in run.settings and _same(run.settings[key], value)


def _same(value: Any, text: str) -> bool:
    """Whether `text` says `value`: as a number, whatever its spelling, or as YAML."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(text) == value
        return bool(yaml.safe_load(text) == value) or text == str(value)
    except (ValueError, yaml.YAMLError):
        return False

"""List, sort and filter the runs in a folder."""

import datetime
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from minigpt.errors import CheckpointError, ConfigError, did_you_mean
from minigpt.lab.compare.groups import NEUTRAL_SETTINGS, differing_keys
from minigpt.lab.compare.labels import setting_text, yaml_text
from minigpt.lab.sweep.record import SweepRecords
from minigpt.runs.ownership import find_runs, folder_bytes, is_run, strangers
from minigpt.runs.paths import CONFIG
from minigpt.runs.records import RunRecord, flat_settings, read_run
from minigpt.runs.status import RunState
from minigpt.system.tables import Table
from minigpt.system.units import bytes_text, clock_text

_VALUES = 6  # shown of a setting
_FEW = 4  # settings shown of a run
_DIFFERS = "differing settings"
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
    """At its last validation, in nats per token."""
    bytes: int
    settings: dict[str, Any]
    """By dotted key."""
    reason: str
    """Why it is damaged, or why it ended before its last step, if known."""

    def __repr__(self) -> str:
        """One line."""
        step = "" if self.step is None else f", step {self.step:,} of {self.max_steps:,}"
        loss = "" if self.loss is None else f", loss {self.loss:.4f}"
        return f"run {self.name}: {self.state}{step}{loss}, {bytes_text(self.bytes)}"

    note: str = ""
    """Says that its curves were cut short, if they were."""
    strangers: tuple[str, ...] = ()
    """Files in its folder that no run writes: the folder is then never deleted."""


def list_runs(root: Path) -> list[ListedRun]:
    """All runs in `root` and below, by name; raises ConfigError if `root` is no folder of runs."""
    if not root.is_dir():
        near = did_you_mean(root.name, [path.name for path in root.parent.glob("*") if path.is_dir()])
        raise ConfigError(f"no folder {root} that holds runs{near}")
    if is_run(root):
        raise ConfigError(f"{root} is a run itself: runs takes the folder that holds it")
    sweeps = SweepRecords()
    return [describe_run(folder, root, sweeps) for folder in find_runs(root)]


def sort_runs(runs: Iterable[ListedRun], key: SortKey) -> list[ListedRun]:
    """Sort by loss (lowest first, runs without one last), age (youngest first), size (largest first) or name."""
    return sorted(runs, key=_SORT_KEYS[key])


def filter_runs(runs: Sequence[ListedRun], conditions: Sequence[str]) -> list[ListedRun]:
    """The runs that meet every condition: a state, or `key=value` of the config.

    Raises ConfigError for an unknown state or key, naming the nearest.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.settings))
    tests = [_condition(text, keys) for text in conditions]
    return [run for run in runs if all(test(run) for test in tests)]


def why_none(runs: Sequence[ListedRun], conditions: Sequence[str]) -> str:
    """The condition that no run meets, with the existing values; empty if each is met by some run."""
    for text in conditions:
        key, equals, value = text.partition("=")
        if equals and runs and not filter_runs(runs, [text]):
            values = list(dict.fromkeys(yaml_text(run.settings[key]) for run in runs if key in run.settings))
            more = ", ..." if len(values) > _VALUES else ""
            near = did_you_mean(value, values)
            return f": {key} is {', '.join(values[:_VALUES])}{more}, never {value}{near}"
    return ""


def runs_table(runs: Sequence[ListedRun]) -> Table:
    """The runs as a table, with a column of the settings in which they differ, if any."""
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
    """For each run its values of the settings that differ between runs; if these are many, only the unusual values."""
    known = [run.settings for run in runs if run.settings]
    if not known:
        return [""] * len(runs)
    # A setting that older configs lack is null in newer ones: no difference.
    found = differing_keys([{key: value for key, value in each.items() if value is not None} for each in known])
    keys = [key for key in found if key not in NEUTRAL_SETTINGS - {"seed_everything"}]
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
    """Plain values for JSON."""
    names = ("name", "state", "age", "step", "max_steps", "loss", "bytes", "reason", "note")
    values = {name: getattr(run, name) for name in names}
    finite = run.loss is not None and math.isfinite(run.loss)
    return values | {"folder": str(run.folder), "loss": run.loss if finite else None}


def describe_run(folder: Path, root: Path, sweeps: SweepRecords, *, locked: bool = False) -> ListedRun:
    """Describe the run in `folder`; `locked` says that this process holds its lock, which then means no training."""
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
    """Why a run ended before its last step, as recorded by its last session or its sweep."""
    state = sweeps.state(record.folder, record.state)
    if state not in {"failed", "diverged", "stopped"}:
        return ""
    cell = sweeps.cell(record.folder)
    if record.stopped_early:
        return f"stopped early: {record.stopped_early}"
    recorded = record.sessions[-1].get("error") if record.sessions else None
    reason = recorded or (cell.reason if cell else None)
    if not reason and state == "failed":
        return "it ended before its first checkpoint without a message: it was killed or stopped"
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
    """Whether `text` stands for `value`, as a number or as YAML."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(text) == value
        return bool(yaml.safe_load(text) == value) or text == str(value)
    except (ValueError, yaml.YAMLError):
        return False

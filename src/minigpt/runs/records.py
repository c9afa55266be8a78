"""Read the record of a run from its folder, without torch: settings, curves, sessions, and how it ended."""

import datetime
import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from minigpt.data.identity import DataIdentity
from minigpt.data.tokenizers import load_tokenizer
from minigpt.errors import CheckpointError, ConfigError, DataError, did_you_mean, shown
from minigpt.model.config import GPTConfig, padded_vocabulary
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.ownership import is_run
from minigpt.runs.paths import CHECKPOINTS, CONFIG, METRICS, TOKENIZER, step_name, step_paths
from minigpt.runs.sessions import BROKEN, read_sessions, reason_of, tokens_at
from minigpt.runs.status import RunState, ended, is_locked

_WHOLE = {
    "seed_everything": 0, "trainer.max_steps": 1, "trainer.accumulate_grad_batches": 1, "data.batch_size": 1,
    "data.vocab_multiple": 1, "model.block_size": 1, "run.eval_batches": 1,
}  # fmt: skip
"""Settings that the counting of steps and tokens needs, with the smallest value of each."""

Metrics = dict[int, dict[str, float]]
"""Curves by step."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, as its folder records it."""

    folder: Path
    config: dict[str, Any]
    """The groups of config.yaml."""
    metrics: dict[int, dict[str, float]]
    """The curves by step; empty before the first point."""
    sessions: list[dict[str, Any]]
    """The records of the first start and of each resume in provenance.json."""
    steps: list[int]
    """Steps of its checkpoints, oldest first."""
    state: RunState

    def __repr__(self) -> str:
        """One line."""
        step = f"step {self.step:,} of {self.max_steps:,}"
        return f"run {self.folder}: {self.state}, {step}, {len(self.steps)} checkpoint{'s' * (len(self.steps) != 1)}"

    note: str = ""
    """That the curves were cut short, and where the last validation comes from."""
    knows_end: bool = True
    """Whether the last validation that was due is known."""

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.folder.name

    @property
    def step(self) -> int:
        """Optimizer steps done, as far as they are recorded."""
        return max([0, *self.metrics, *self.steps])

    @property
    def max_steps(self) -> int:
        """The step at which it is finished."""
        return int(self.config["trainer"]["max_steps"])

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step of its last session learns from, on all devices together."""
        windows = int(self.config["data"]["batch_size"]) * int(self.config["trainer"]["accumulate_grad_batches"])
        return windows * int(self.config["model"]["block_size"])

    def tokens_at(self, step: int) -> int:
        """Tokens that it has learnt from after `step` optimizer steps, each session by its own settings."""
        return tokens_at(step, self.sessions, flat_settings(self.config))

    @property
    def started(self) -> datetime.datetime | None:
        """When its first session began; none: not recorded."""
        return _time(self.sessions[0].get("started")) if self.sessions else None

    @property
    def data_fingerprint(self) -> str:
        """Fingerprint of text, split and tokenizer of its last session; empty: not recorded."""
        return str(self.sessions[-1].get("data_fingerprint") or "") if self.sessions else ""

    @property
    def identity(self) -> DataIdentity:
        """The texts of its last session, by content."""
        return DataIdentity.of(self.sessions[-1].get("texts") if self.sessions else None, self.data_fingerprint)

    @property
    def loses(self) -> str:
        """What its tokenizer loses of the text, in words; empty: nothing that is recorded."""
        return str(self.sessions[-1].get("loses") or "") if self.sessions else ""

    @property
    def stopped_early(self) -> str | None:
        """Why and where its last session ended before the last step, as a time limit or a callback asked for it."""
        reason = self.sessions[-1].get("stopped_early") if self.sessions and self.state == "stopped" else None
        return str(reason) if reason else None

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Runs with equal ones cut their text alike; empty: there is no tokenizer.json."""
        path = self.folder / TOKENIZER
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    @cached_property
    def model(self) -> GPTConfig:
        """The settings of its model with the vocabulary; CheckpointError where that cannot be known."""
        try:
            settings = {key: value for key, value in self.config["model"].items() if key != "vocab_size"}
            return GPTConfig(vocab_size=self._vocab_size(), **settings)
        except (ConfigError, DataError, TypeError) as error:
            raise CheckpointError(f"{self.folder}: its model cannot be known: {error}") from None

    def _vocab_size(self) -> int:
        """The tokenizer's, padded up; weights from elsewhere brought their own padding, which a checkpoint knows."""
        if self.sessions and self.sessions[0].get("weights_only") and self.steps:
            from minigpt.runs.checkpoint import find_checkpoint, read_checkpoint  # the one case that needs torch

            return read_checkpoint(find_checkpoint(self.folder, prefer="last")).config.vocab_size
        multiple = int(self.config["data"]["vocab_multiple"])
        return padded_vocabulary(load_tokenizer(self.folder / TOKENIZER).vocab_size, multiple)


def read_run(folder: Path, *, look_at_lock: bool = True) -> RunRecord:
    """Read the record of the run in `folder`; raises CheckpointError, one line that begins with the path.

    `look_at_lock=False` is for who holds its lock: then it is not running.
    """
    if not folder.is_dir():
        if folder.exists():
            raise CheckpointError(f"{folder} is a file, not a run's folder")
        raise CheckpointError(f"no run at {folder}{_nearest(folder)}")
    config = _config(folder)
    # In this order: a running process brings the curves up to date before it saves.
    steps = [int(path.stem.removeprefix("step=")) for path in step_paths(folder / CHECKPOINTS)]
    metrics = read_metrics(folder / METRICS) if (folder / METRICS).is_file() else {}
    missing = _missing_validation(metrics, steps, config) if metrics else None
    note, knows_end = "", True
    if missing is not None:
        metrics, note, knows_end = _with_validation(folder, metrics, missing)
    running = look_at_lock and is_locked(folder)
    state: RunState = "running" if running else ended(folder, int(config["trainer"]["max_steps"]), metrics, steps)
    return RunRecord(
        folder=folder,
        config=config,
        metrics=metrics,
        sessions=read_sessions(folder),
        steps=steps,
        state=state,
        note=note,
        knows_end=knows_end,
    )


def _missing_validation(metrics: dict[int, dict[str, float]], steps: list[int], config: dict[str, Any]) -> int | None:
    """The newest step of a checkpoint at which a validation was due whose row lacks it; None: there is none."""
    last = max((step for step, row in metrics.items() if "val/loss" in row), default=0)
    every, end = config["run"].get("eval_every"), config["trainer"]["max_steps"]
    due = [step for step in steps if step >= end or (isinstance(every, int) and every > 0 and step % every == 0)]
    newest = max(due, default=0)
    return newest if newest > last else None


def _with_validation(folder: Path, metrics: Metrics, step: int) -> tuple[Metrics, str, bool]:
    """`metrics` with the validation of `step` from its checkpoint, a line that says so, and whether it is known now.

    The last row of a file is not the last step of a run: a full disk or an editor may have taken rows from its end.
    Bits per byte are the loss times their ratio to it in another row: a run validates on the same windows each time.
    No line where the checkpoint says that there was no validation at that step.
    """
    from minigpt.runs.checkpoint import read_checkpoint  # needs torch

    name = step_name(step)
    try:
        loss = read_checkpoint(folder / CHECKPOINTS / name).val_loss
    except CheckpointError:
        return metrics, f"{METRICS} ends before the validation of step {step:,}, and {name} does not have it", False
    if loss is None:
        return metrics, "", True
    row = {**metrics.get(step, {}), "val/loss": loss, "val/perplexity": math.exp(min(loss, 700.0))}
    known = [each for each in metrics.values() if each.get("val/loss") and "val/bits_per_byte" in each]
    if known:
        row["val/bits_per_byte"] = loss * known[-1]["val/bits_per_byte"] / known[-1]["val/loss"]
    whole = dict(sorted({**metrics, step: row}.items()))
    return whole, f"{METRICS} ends before the validation of step {step:,}, which is taken from {name}", True


def flat_settings(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model": {"n_head": 4}}` -> `{"model.n_head": 4}`; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flat_settings(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        not_one = "" if is_run(folder) else " is not a run's folder: it"
        raise CheckpointError(f"{folder}{not_one} has no {CONFIG}{_what_else(folder)}")
    if not is_run(folder):
        raise CheckpointError(
            f"{folder} is not a run's folder: minigpt fit wrote neither its {CONFIG} nor anything else in it"
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError("it is empty" if config is None else f"it holds no groups of settings: {shown(config)}")
        for group in ("run", "model", "optim", "data", "trainer"):
            if not isinstance(config[group], dict):
                raise TypeError(f"{group} is no group of settings")
        for key, least in _WHOLE.items():
            _check_whole(config, key, least)
    except BROKEN as error:
        raise CheckpointError(f"{path} is damaged: {reason_of(error)}") from None
    return dict(config)


def _check_whole(config: dict[str, Any], key: str, least: int) -> None:
    """Raise ValueError unless the setting is there and a whole number."""
    group, _, name = key.rpartition(".")
    value = (config[group] if group else config)[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key} must be a whole number, {least} or more: {shown(value)}")


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _time(text: Any) -> datetime.datetime | None:
    try:
        time = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def _what_else(folder: Path) -> str:
    """Say what the folder is instead, for an error message."""
    if folder.name == CHECKPOINTS:
        return f"; its run is {folder.parent}"
    inside = [path.name for path in _listed(folder) if path.is_dir() and is_run(path)]
    return f"; it holds runs: {', '.join(sorted(inside)[:5])}{', ...' if len(inside) > 5 else ''}" if inside else ""


def _nearest(path: Path) -> str:
    """`, did you mean NAME?` of what lies beside it."""
    return did_you_mean(path.name, [child.name for child in _listed(path.parent)])

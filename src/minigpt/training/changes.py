"""Differences between two configs, and whether they are the same experiment."""

from pathlib import Path
from typing import Any

import yaml

from minigpt.runs.checkpoint import Checkpoint
from minigpt.runs.paths import CONFIG
from minigpt.system.files import home_path
from minigpt.training.config import Experiment

Changes = dict[str, tuple[Any, Any]]
"""Key of the config -> (its value then, its value now)."""

_NAMES_OF_A_RUN = frozenset({"run.name", "run.root", "run.init_from"})
"""Settings of where a run lives or came from, which change nothing that it does."""
_LATER_SETTINGS = {"data.allow_lossy_tokenizer": False, "run.evaluations": [], "run.evaluate_every": 0}
"""Defaults of settings that older configs lack; null needs no entry."""
_OF_THE_TRAINER = frozenset({"precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches"})
"""The trainer's settings that make another experiment: not its length, its devices, or what it shows."""
_FREE = frozenset({"data.num_workers", "model.attention"})
"""Settings of the other groups that change no number."""


def config_changes(experiment: Experiment, checkpoint: Checkpoint) -> Changes:
    """Every key of the config whose value is another than when `checkpoint` was written; empty if that is not known."""
    if not checkpoint.yaml:
        return {}
    then, now = (_LATER_SETTINGS | settings_of(text) for text in (checkpoint.yaml, experiment.yaml))
    keys = [key for key in {**now, **then} if key not in _NAMES_OF_A_RUN]
    return {key: (then.get(key), now.get(key)) for key in keys if then.get(key) != now.get(key)}


def folder_changes(experiment: Experiment, folder: Path) -> Changes:
    """The keys that the config.yaml of the run in `folder` and the config at hand have both, with other values."""
    then, now = run_settings(folder), settings_of(experiment.yaml)
    keys = [key for key in now if key in then and key not in _NAMES_OF_A_RUN]
    return {key: (then[key], now[key]) for key in keys if then[key] != now[key]}


def other_experiment(experiment: Experiment, folder: Path) -> Changes:
    """Those of `folder_changes` that make another experiment: of the model, its optimizer, its data, its seed.

    How long it trains and where, how often it logs, validates or saves, and on what devices make no difference.
    """
    changes = folder_changes(experiment, folder)
    return {key: values for key, values in changes.items() if _counts(key) and not _same_place(key, *values)}


def run_settings(folder: Path) -> dict[str, Any]:
    """The keys and values of a run's config.yaml; none where it cannot be read."""
    try:
        return settings_of((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def settings_of(text: str) -> dict[str, Any]:
    """The keys and values of a config; none if it is not one, as a checkpoint of strangers may hold anything."""
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, RecursionError):
        return {}
    return flatten(values) if isinstance(values, dict) else {}


def _counts(key: str) -> bool:
    group, _, name = key.partition(".")
    if group == "trainer":
        return name in _OF_THE_TRAINER
    return key == "run.module" or (group != "run" and key not in _FREE)


def _same_place(key: str, then: Any, now: Any) -> bool:
    """Whether two names of a corpus or a tokenizer are one file or folder."""
    if key not in {"data.corpus", "data.tokenizer"} or not (isinstance(then, str) and isinstance(now, str)):
        return False
    one, other = (home_path(name) for name in (then, now))
    try:
        return one.exists() and other.exists() and one.samefile(other)
    except (OSError, ValueError):
        return False

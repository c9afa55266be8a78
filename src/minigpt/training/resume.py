"""What a run begins from: nothing, weights of elsewhere, the newest checkpoint of its own folder, or one of another
run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from minigpt.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from minigpt.errors import CheckpointError, ConfigError
from minigpt.layout import BEST_NAME, step_paths
from minigpt.model.config import GPTConfig
from minigpt.training.config import Experiment
from minigpt.training.runs import newest_run

_FREE_MODEL_KEYS = frozenset({"dropout", "attention", "zero_init"})
"""What may change on resume: neither touches the shape or the meaning of a weight."""

_NAMES_OF_A_RUN = frozenset({"run.name", "run.root", "run.init_from"})
"""What says where a run lives or where it came from, not what it does."""

_LATER_SETTINGS = {"data.allow_lossy_tokenizer": False}
"""What configs mean that were written before there was a setting."""

Changes = dict[str, tuple[Any, Any]]
"""Key of the config -> (its value then, its value now)."""


@dataclass(frozen=True)
class Start:
    """Where training begins. `folder` is the run to go on with, or None for a new one."""

    checkpoint: Checkpoint | None = None
    folder: Path | None = None
    weights_only: bool = False
    """Whether only the model is taken from the checkpoint: the optimizer, the step and the data begin anew."""
    passed_over: tuple[str, ...] = ()
    """Why newer checkpoints than this one could not be used, a line each."""

    @property
    def step(self) -> int:
        """Optimizer steps that are done already."""
        return self.checkpoint.step if self.checkpoint and not self.weights_only else 0

    @property
    def resumed(self) -> Checkpoint | None:
        """The checkpoint whose optimizer and position training goes on with."""
        return None if self.weights_only else self.checkpoint


def find_start(experiment: Experiment, ckpt_path: str | None) -> Start:
    """What `--ckpt_path` means: nothing; `last`, the newest run of this name; or a file or a run to branch from.

    A checkpoint that has no optimizer, as an imported one, lends its weights only, and so does `run.init_from`, which
    holds for a new run.
    """
    init_from = experiment.run.init_from
    if ckpt_path is None:
        return Start(read_checkpoint(find_checkpoint(init_from)), weights_only=True) if init_from else Start()
    if not ckpt_path:
        raise ConfigError("--ckpt_path='' must be last, a checkpoint or a run")
    if ckpt_path == "last":
        return _last(newest_run(Path(experiment.run.root), experiment.run.name))
    if init_from:
        raise ConfigError(
            f"run.init_from={init_from} and --ckpt_path {ckpt_path} both say where to begin: leave one out"
        )
    checkpoint = read_checkpoint(find_checkpoint(ckpt_path, prefer="last"))
    return Start(checkpoint, weights_only=not checkpoint.resumable)


def _last(folder: Path) -> Start:
    """The newest checkpoint of a run that is whole. A run that was killed before its first one begins anew."""
    paths = [*reversed(step_paths(folder / "checkpoints")), folder / "checkpoints" / BEST_NAME]
    reasons: list[str] = []
    for path in paths:
        if not path.exists():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        if not checkpoint.resumable:
            raise CheckpointError(
                f"{path}: holds weights but no optimizer and no position: training cannot go on from it"
            )
        return Start(checkpoint, folder, passed_over=tuple(reasons))
    if reasons:
        raise CheckpointError(f"--ckpt_path last: {folder} has no checkpoint that is whole; the newest: {reasons[0]}")
    return Start(folder=folder)


def check_same_model(config: GPTConfig, checkpoint: Checkpoint) -> None:
    """Raise ConfigError, naming all that differs, if the weights of `checkpoint` are those of another model."""
    now, then = config.to_dict(), checkpoint.config.to_dict()
    differ = [key for key, value in now.items() if value != then[key] and key not in _FREE_MODEL_KEYS]
    if differ:
        what = ", ".join(f"model.{key}={_plain(now[key])} differs from {_plain(then[key])}" for key in differ)
        options = " ".join(f"--model.{key} {_plain(then[key])}" for key in differ if key != "vocab_size")
        hint = f"; its own: {options}" if options else ""
        raise ConfigError(f"{what} in the checkpoint {checkpoint.path}{hint}")


def check_same_optimizer(name: str, checkpoint: Checkpoint) -> None:
    """Raise ConfigError if the state in `checkpoint` is that of another optimizer than `name`."""
    if name != checkpoint.optimizer:
        raise ConfigError(
            f"optim.name={name} differs from {checkpoint.optimizer} in the checkpoint {checkpoint.path}, whose state "
            "is no use to it; run.init_from takes the weights alone"
        )


def data_changes(experiment: Experiment, checkpoint: Checkpoint) -> Changes:
    """The settings that make the text or its tokens, where they differ from the checkpoint's."""
    now = experiment.data.to_dict()
    free = {"batch_size", "num_workers", "vocab_multiple", "allow_lossy_tokenizer"}
    return {
        key: (checkpoint.data.get(key), value)
        for key, value in now.items()
        if key not in free and checkpoint.data.get(key) != value
    }


def config_changes(experiment: Experiment, checkpoint: Checkpoint) -> Changes:
    """Every key of the config whose value is another than when `checkpoint` was written; empty if that is not known."""
    if not checkpoint.yaml:
        return {}
    then, now = (_LATER_SETTINGS | _settings(text) for text in (checkpoint.yaml, experiment.yaml))
    keys = [key for key in {**now, **then} if key not in _NAMES_OF_A_RUN]
    return {key: (then.get(key), now.get(key)) for key in keys if then.get(key) != now.get(key)}


def _settings(text: str) -> dict[str, Any]:
    """The keys and values of a config; none if it is not one, as a checkpoint of strangers may hold anything."""
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, RecursionError):
        return {}
    return flatten(values) if isinstance(values, dict) else {}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _plain(value: Any) -> str:
    """A value as a YAML or a command line spells it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

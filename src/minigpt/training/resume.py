"""What a run begins from: nothing, weights of elsewhere, the newest checkpoint of its own folder, or one of another
run."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt.errors import CheckpointError, ConfigError
from minigpt.model.config import GPTConfig
from minigpt.runs.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from minigpt.runs.paths import BEST_NAME, CHECKPOINTS, CONFIG, PROVENANCE, step_paths
from minigpt.training.changes import Changes, folder_changes, other_experiment, run_settings, settings_of
from minigpt.training.config import Experiment
from minigpt.training.last import changes_text, last_run, resume_command

_FREE_MODEL_KEYS = frozenset({"dropout", "attention", "zero_init"})
"""Settings that may change on resume: none touches the shape or the meaning of a weight."""


@dataclass(frozen=True)
class Start:
    """Where training begins. `folder` is the run to go on with, or None for a new one."""

    checkpoint: Checkpoint | None = None
    folder: Path | None = None
    weights_only: bool = False
    """Whether only the model is taken from the checkpoint: the optimizer, the step and the data begin anew."""
    steps: tuple[str, ...] = ()
    """Names of the checkpoints in `folder`: when training begins they must be the same."""
    passed_over: tuple[str, ...] = ()
    """Why newer checkpoints than this one could not be used, a line each."""
    changes: Changes = field(default_factory=dict)
    """Settings that differed in the config of a folder that begins anew."""

    @property
    def step(self) -> int:
        """Optimizer steps that are done already."""
        return self.checkpoint.step if self.checkpoint and not self.weights_only else 0

    @property
    def resumed(self) -> Checkpoint | None:
        """The checkpoint whose optimizer and position training goes on with."""
        return None if self.weights_only else self.checkpoint


def find_start(experiment: Experiment, ckpt_path: str | None, resume: Path | None = None) -> Start:
    """Where to begin: in the folder `resume` of a run, or by what `--ckpt_path` means: nothing; `last`, the newest run
    of this experiment; or a file or a run to branch from.

    A checkpoint that has no optimizer, as an imported one, lends its weights only, and so does `run.init_from`, which
    holds for a new run.
    """
    init_from = experiment.run.init_from
    if resume is not None:
        return _go_on(experiment, resume, named=True)
    if ckpt_path is None:
        return Start(read_checkpoint(find_checkpoint(init_from)), weights_only=True) if init_from else Start()
    if not ckpt_path:
        raise ConfigError("--ckpt_path='' must be last, a checkpoint or a run")
    if ckpt_path == "last":
        return _go_on(experiment, last_run(experiment), named=False)
    if init_from:
        raise ConfigError(
            f"run.init_from={init_from} and --ckpt_path {ckpt_path} both say where to begin: leave one out"
        )
    checkpoint = read_checkpoint(find_checkpoint(ckpt_path, prefer="last"))
    return Start(checkpoint, weights_only=not checkpoint.resumable)


def _go_on(experiment: Experiment, folder: Path, *, named: bool) -> Start:
    """From the newest whole checkpoint of the run in `folder`; `named`: by the user, and not found by its name.

    Without a checkpoint it begins anew, and what is done stays so: neither for another experiment, but where the user
    has named that folder.
    """
    steps = tuple(path.name for path in step_paths(folder / CHECKPOINTS))
    checkpoint, passed_over = _newest(folder)
    differs = {} if named else other_experiment(experiment, folder)
    if differs and (checkpoint is None or checkpoint.step >= experiment.trainer["max_steps"]):
        state = "no checkpoint yet" if checkpoint is None else f"done its {checkpoint.step:,} steps"
        raise ConfigError(
            f"--ckpt_path last: {folder} is another experiment ({changes_text(differs)}) and has {state}: leave out "
            f"--ckpt_path for a new run, or {resume_command(folder)} goes on with it"
        )
    if checkpoint is None and not named and not run_settings(folder):
        raise CheckpointError(f"--ckpt_path last: {folder} has no checkpoint yet, and its {CONFIG} cannot be read")
    if checkpoint is not None:
        return Start(checkpoint, folder, steps=steps, passed_over=passed_over)
    changes, init_from = folder_changes(experiment, folder), experiment.run.init_from
    if init_from:
        weights = read_checkpoint(find_checkpoint(init_from))
        return Start(weights, folder, weights_only=True, steps=steps, changes=changes)
    if parent := _parent(folder):
        raise CheckpointError(
            f"{folder} began from {parent} and has no checkpoint of its own yet: "
            f"--ckpt_path {parent} begins there again"
        )
    return Start(folder=folder, steps=steps, changes=changes)


def _newest(folder: Path) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The newest checkpoint of a run that is whole, and why newer ones are not; None: there is none yet."""
    paths = [*reversed(step_paths(folder / CHECKPOINTS)), folder / CHECKPOINTS / BEST_NAME]
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
        return checkpoint, tuple(reasons)
    if reasons:
        raise CheckpointError(f"{folder} has no checkpoint that is whole; the newest: {reasons[0]}")
    return None, ()


def _parent(folder: Path) -> str:
    """The checkpoint that the run began from, by the record of its first session; empty: it began from nothing."""
    try:
        first = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))["sessions"][0]
        return str(first.get("parent") or "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


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
    then = settings_of(checkpoint.yaml).get("optim.name", name)
    if name != then:
        raise ConfigError(
            f"optim.name={name} differs from {then} in the checkpoint {checkpoint.path}, whose state "
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


def _plain(value: Any) -> str:
    """A value as a YAML or a command line spells it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

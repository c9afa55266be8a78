"""What a run begins from: nothing, the newest checkpoint of its own folder, or a checkpoint of another run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.checkpoint import Checkpoint, find_checkpoint, last_checkpoint, read_checkpoint
from minigpt.errors import CheckpointError, ConfigError
from minigpt.model.config import GPTConfig
from minigpt.training.config import Experiment
from minigpt.training.runs import newest_run

_FREE_MODEL_KEYS = frozenset({"dropout", "attention"})
"""What may change on resume: neither touches the shape or the meaning of a weight."""


@dataclass(frozen=True)
class Start:
    """Where training begins. `folder` is the run to go on with, or None for a new one."""

    checkpoint: Checkpoint | None = None
    folder: Path | None = None

    @property
    def step(self) -> int:
        """Optimizer steps that are done already."""
        return self.checkpoint.step if self.checkpoint else 0


def find_start(experiment: Experiment, ckpt_path: str | None) -> Start:
    """What `--ckpt_path` means: nothing; `last`, the newest run of this name; or a file or a run to branch from."""
    if ckpt_path is None:
        return Start()
    if not ckpt_path:
        raise ConfigError("--ckpt_path='' must be last, a checkpoint or a run")
    if ckpt_path != "last":
        return Start(_resumable(find_checkpoint(ckpt_path, prefer="last")))
    folder = newest_run(Path(experiment.run.root), experiment.run.name)
    path = last_checkpoint(folder)
    if path is None:
        raise CheckpointError(f"--ckpt_path last: {folder} has no complete checkpoint; start again without --ckpt_path")
    return Start(_resumable(path), folder)


def _resumable(path: Path) -> Checkpoint:
    """The checkpoint, if it holds what training goes on from, not the weights alone."""
    checkpoint = read_checkpoint(path)
    if not checkpoint.resumable:
        raise CheckpointError(f"{path}: holds weights but no optimizer and no position: training cannot go on from it")
    return checkpoint


def check_same_model(config: GPTConfig, checkpoint: Checkpoint) -> None:
    """Raise ConfigError if the weights of `checkpoint` are those of another model than `config`."""
    now, then = config.to_dict(), checkpoint.config.to_dict()
    for key, value in now.items():
        if value != then[key] and key not in _FREE_MODEL_KEYS:
            raise ConfigError(f"model.{key}={value} differs from {then[key]} in the checkpoint {checkpoint.path}")


def data_changes(experiment: Experiment, checkpoint: Checkpoint) -> dict[str, tuple[Any, Any]]:
    """The settings that make the text or its tokens, where they differ from the checkpoint's: name -> (then, now)."""
    now = experiment.data.to_dict()
    free = {"batch_size", "num_workers", "vocab_multiple"}
    return {
        key: (checkpoint.data.get(key), value)
        for key, value in now.items()
        if key not in free and checkpoint.data.get(key) != value
    }

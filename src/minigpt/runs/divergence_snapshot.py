"""Write and read divergence snapshots: a training step that went wrong, with all that repeating it needs."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from minigpt.data.tokenizers import Tokenizer, tokenizer_from_json
from minigpt.errors import CheckpointError, ConfigError, DataError
from minigpt.model.config import GPTConfig
from minigpt.model.loss import IGNORE_INDEX
from minigpt.optim.config import OptimConfig
from minigpt.runs.archive import read_archive, write_archive
from minigpt.runs.checkpoint import check_weights

ENTRY = "minigpt_divergence"
FORMAT = 2

Batch = tuple[Tensor, Tensor]
"""Tokens and targets, int64 (B, T) each; targets of IGNORE_INDEX count for nothing."""

_FACTS: dict[str, tuple[type, ...]] = {
    "reason": (str,),
    "step": (int,),
    "batch": (int,),
    "seed": (int,),
    "world": (int,),
    "precision": (str,),
    "loss_scale": (float,),
    "clip_val": (int, float, NoneType),
    "clip_algorithm": (str, NoneType),
    "losses": (list,),
    "grad_norm": (float,),
}
_LEAST = {"step": 1, "batch": 0, "seed": 0, "world": 1}


@dataclass(frozen=True, kw_only=True, eq=False)
class DivergenceSnapshot:
    """One optimizer step of all processes of a run, before its update."""

    reason: str
    """Why it was kept, in words."""
    step: int
    """The optimizer step that it would have been, counted from 1."""
    batch: int
    """Number of the first of its batches on each process, from the beginning of the run."""
    seed: int
    world: int
    """Processes; the gradient is the mean of theirs."""
    precision: str
    """As `trainer.precision` names it."""
    loss_scale: float
    """Factor of the loss before the backward pass: 1 except under float16."""
    clip_val: float | None
    """As `trainer.gradient_clip_val`."""
    clip_algorithm: str | None
    """As `trainer.gradient_clip_algorithm`."""
    config: GPTConfig
    tokenizer: Tokenizer
    losses: list[float]
    """Loss of each of its batches, nats per token."""
    grad_norm: float
    """Norm of the whole gradient, before clipping."""
    grad_norms: dict[str, float]
    """Norm of the gradient of each tensor, before clipping."""
    batches: list[Batch]
    """One for each process and accumulated batch: all of the first process, then all of the second."""
    weights: dict[str, Tensor]
    """The GPT's state dict that the step began with."""
    optim: OptimConfig | None
    """The settings of the optimizer; none: an older version did not write them."""
    optimizer: dict[str, Any]
    """The `state_dict` of the optimizer that the step began with."""

    def __repr__(self) -> str:
        """One line: which step, and why it was kept."""
        return f"step {self.step:,} of a run, kept because {self.reason}"


def write_snapshot(path: Path, snapshot: DivergenceSnapshot) -> None:
    """Write `snapshot`; raises CheckpointError when the disk does not take it."""
    facts = {name: getattr(snapshot, name) for name in _FACTS}
    content = {
        ENTRY: {
            "format": FORMAT,
            **facts,
            "config": snapshot.config.to_dict(),
            "optim": snapshot.optim and asdict(snapshot.optim),
            "tokenizer": snapshot.tokenizer.to_json(),
        },
        "grad_norms": snapshot.grad_norms,
        "batches": [[tokens.cpu().clone(), targets.cpu().clone()] for tokens, targets in snapshot.batches],
        "weights": snapshot.weights,
        "optimizer": snapshot.optimizer,
    }
    write_archive(content, path)


def read_snapshot(path: Path) -> DivergenceSnapshot:
    """Read the snapshot in `path`; raises CheckpointError, one line, for a file that is missing, damaged or another,
    or whose parts contradict each other. `optimizer` is checked when it is loaded into one."""
    if not path.is_file():
        raise CheckpointError(f"no snapshot at {path}: a run writes them to RUN/divergences/")
    content = read_archive(path)
    facts = content.get(ENTRY) if isinstance(content, dict) else None
    if not isinstance(facts, dict) or type(facts.get("format")) is not int or facts["format"] != FORMAT:
        raise CheckpointError(f"{path} is not a divergence snapshot of format {FORMAT}")
    for name, kinds in _FACTS.items():
        value = facts.get(name)
        if name not in facts or not isinstance(value, kinds) or isinstance(value, bool):
            raise CheckpointError(f"{path}: its entry has no '{name}' that can be used")
    for name, least in _LEAST.items():
        if facts[name] < least:
            raise CheckpointError(f"{path}: '{name}' in its entry must be at least {least}: {facts[name]}")
    if not 0 < facts["loss_scale"] < math.inf:
        raise CheckpointError(f"{path}: 'loss_scale' in its entry must be above 0 and finite: {facts['loss_scale']}")
    config, tokenizer, optim = _settings(path, facts)
    weights = content.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise CheckpointError(f"{path}: its 'weights' are not tensors under names")
    check_weights(path, config, weights)
    grad_norms = content.get("grad_norms")
    if not isinstance(grad_norms, dict) or not all(isinstance(norm, float) for norm in grad_norms.values()):
        raise CheckpointError(f"{path}: its 'grad_norms' are not numbers under names")
    optimizer = content.get("optimizer")
    return DivergenceSnapshot(
        **{name: facts[name] for name in _FACTS},
        config=config,
        tokenizer=tokenizer,
        grad_norms=grad_norms,
        batches=_batches(path, content.get("batches"), facts, config, tokenizer),
        weights=weights,
        optim=optim,
        optimizer=optimizer if isinstance(optimizer, dict) else {},
    )


def _settings(path: Path, facts: dict[str, Any]) -> tuple[GPTConfig, Tokenizer, OptimConfig | None]:
    """The settings of the model, its tokenizer, and the settings of the optimizer."""
    for name, kinds in (("config", dict), ("tokenizer", str), ("optim", dict | None)):
        if not isinstance(facts.get(name), kinds):
            raise CheckpointError(f"{path}: its entry has no '{name}' that can be used")
    try:
        config, tokenizer = GPTConfig.from_dict(facts["config"]), tokenizer_from_json(facts["tokenizer"])
        optim = OptimConfig(**facts["optim"]) if facts.get("optim") else None
    except (ConfigError, DataError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path}: its tokenizer has {tokenizer.vocab_size} tokens, more than vocab_size={config.vocab_size}"
        )
    return config, tokenizer, optim


def _batches(path: Path, batches: Any, facts: dict[str, Any], config: GPTConfig, tokenizer: Tokenizer) -> list[Batch]:
    """The batches, if each is one that the model can read and has its loss."""
    if not isinstance(batches, list) or not batches:
        raise CheckpointError(f"{path}: it holds no batches")
    losses, world = facts["losses"], facts["world"]
    if len(losses) != len(batches) or not all(isinstance(loss, float) for loss in losses):
        raise CheckpointError(f"{path}: its {len(batches)} batches need as many losses, not {len(losses)}")
    if len(batches) % world:
        raise CheckpointError(f"{path}: its {len(batches)} batches cannot be those of {world} processes")
    for number, pair in enumerate(batches):
        fault = _fault_of_batch(pair, config.block_size, tokenizer.vocab_size)
        if fault:
            raise CheckpointError(f"{path}: batch {number} of its {len(batches)} {fault}")
    return [(tokens, targets) for tokens, targets in batches]


def _fault_of_batch(pair: Any, block_size: int, vocab_size: int) -> str | None:
    """What is wrong with tokens and targets, in words, or None."""
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_is_index(each) for each in pair):
        return "is not tokens and targets, int64 (B, T) each"
    tokens, targets = pair
    if tokens.shape != targets.shape:
        return f"has tokens of shape {tuple(tokens.shape)} and targets of shape {tuple(targets.shape)}"
    if not 0 < tokens.shape[1] <= block_size or not len(tokens):
        return f"has the shape {tuple(tokens.shape)}: windows must have 1 to block_size={block_size} tokens"
    for ids in (tokens, targets.masked_fill(targets == IGNORE_INDEX, 0)):
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= vocab_size:
            return f"holds the id {low if low < 0 else high}: ids lie between 0 and {vocab_size - 1}"
    return None


def _is_index(value: Any) -> bool:
    """Whether `value` is an int64 matrix whose numbers lie in memory, as many as its shape says."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and value.dtype == torch.int64
        and value.ndim == 2
        and value.is_contiguous()
    )

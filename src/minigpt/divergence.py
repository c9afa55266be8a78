"""A training step that went wrong, kept whole: what is needed to do it again, alone, and to see where it broke."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.archive import read_archive, write_archive
from minigpt.errors import CheckpointError, ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.precision import autocast, weights_dtype
from minigpt.randomness import seed_dropout

ENTRY = "minigpt_divergence"
FORMAT = 1

_FACTS: dict[str, type | tuple[type, ...]] = {
    "reason": str,
    "step": int,
    "batch": int,
    "seed": int,
    "rank": int,
    "precision": str,
    "config": dict,
    "tokenizer": str,
    "losses": list,
    "grad_norm": float,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """One step of one process, before its update."""

    reason: str
    """Why it was kept, in words."""
    step: int
    """The optimizer step that it would have been, counted from 1."""
    batch: int
    """Number of the first of its batches, from the beginning of the run."""
    seed: int
    rank: int
    precision: str
    """As `trainer.precision` names it."""
    config: dict[str, Any]
    """The model's settings."""
    tokenizer: str
    """The tokenizer as JSON."""
    losses: list[float]
    """Of each of its batches, nats per token."""
    grad_norm: float
    """Of the whole gradient, before clipping."""
    grad_norms: dict[str, float]
    """Of the gradient of each tensor."""
    batches: list[tuple[Tensor, Tensor]]
    """Tokens and targets, int64 (B, T) each: more than one under accumulation."""
    weights: dict[str, Tensor]
    """The GPT's state dict that the step began with."""
    optimizer: dict[str, Any]
    """The optimizer's state that the step began with."""


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write `bundle`; raises CheckpointError when the disk does not take it."""
    facts = {name: getattr(bundle, name) for name in _FACTS}
    content = {
        ENTRY: {"format": FORMAT, **facts},
        "grad_norms": bundle.grad_norms,
        "batches": [[tokens.cpu().clone(), targets.cpu().clone()] for tokens, targets in bundle.batches],
        "weights": bundle.weights,
        "optimizer": bundle.optimizer,
    }
    write_archive(content, path)


def read_bundle(path: Path) -> Bundle:
    """The bundle in `path`; raises CheckpointError, one line, for what is missing, damaged or something else."""
    if not path.is_file():
        raise CheckpointError(f"no bundle at {path}: a run writes them to RUN/divergences/")
    content = read_archive(path)
    facts = content.get(ENTRY) if isinstance(content, dict) else None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a bundle of a diverged step (format {FORMAT})")
    for name, kind in _FACTS.items():
        if not isinstance(facts.get(name), kind):
            raise CheckpointError(f"{path}: its entry has no '{name}' that can be used")
    try:
        return Bundle(
            **{name: facts[name] for name in _FACTS},
            grad_norms={str(name): float(norm) for name, norm in content["grad_norms"].items()},
            batches=[(tokens, targets) for tokens, targets in content["batches"]],
            weights=dict(content["weights"]),
            optimizer=dict(content["optimizer"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: a bundle with a part missing or of the wrong kind: {error}") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What the step of a bundle comes to when it is done again."""

    losses: list[float]
    grad_norm: float
    grad_norms: dict[str, float]
    token_losses: list[Tensor]
    """For each batch (B, T): the loss of every target."""


def replay(bundle: Bundle, device: torch.device) -> Replay:
    """Do the step again: forward and backward over its batches with the same dropout, without the update."""
    try:
        gpt = GPT(GPTConfig.from_dict(bundle.config))
        gpt.load_state_dict(bundle.weights)
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"the bundle's weights do not fit its config: {str(error).splitlines()[0]}") from error
    gpt = gpt.to(device, weights_dtype(bundle.precision)).train()
    losses, token_losses = [], []
    for number, (tokens, targets) in enumerate(bundle.batches):
        seed_dropout(bundle.seed, bundle.rank, bundle.batch + number, device)
        with autocast(bundle.precision, device):
            loss = gpt.loss(tokens.to(device), targets.to(device))
        (loss / len(bundle.batches)).backward()
        losses.append(float(loss.detach()))
        with torch.no_grad(), autocast(bundle.precision, device):
            token_losses.append(gpt.eval().loss(tokens.to(device), targets.to(device), reduction="none").cpu())
        gpt.train()
    grads = {name: parameter.grad for name, parameter in gpt.named_parameters() if parameter.grad is not None}
    return Replay(
        losses=losses,
        grad_norm=float(torch.nn.utils.get_total_norm(list(grads.values()))),
        grad_norms=norms_by_tensor(grads),
        token_losses=token_losses,
    )


def norms_by_tensor(grads: dict[str, Tensor]) -> dict[str, float]:
    """The 2-norm of each."""
    return {name: float(torch.linalg.vector_norm(grad)) for name, grad in grads.items()}

"""Snapshots of an optimizer step before its update: enough to judge it, and to replay it if it diverged."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from minigpt.data.tokenizers import Tokenizer
from minigpt.runs.divergence_snapshot import Batch, DivergenceSnapshot
from minigpt.training.module import GPTModule
from minigpt.training.position import batches_done

_OF_THE_STEP = ("lr", "momentum")
"""Options of an optimizer's groups that `set_for_step` changes."""


class Underway:
    """Numbers on their way from the device to the host. To `read` them waits for them alone, and not, as `float` would,
    for all that was given to the device since."""

    def __init__(self, values: Tensor) -> None:
        """`values` (N,)."""
        self._host = values.to("cpu", non_blocking=values.is_cuda)  # into pinned memory; elsewhere there is no event
        self._event = torch.cuda.Event() if values.is_cuda else None
        if self._event is not None:
            self._event.record()

    def read(self) -> list[float]:
        """The N numbers."""
        if self._event is not None:
            self._event.synchronize()
        numbers: list[float] = self._host.tolist()
        return numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Observed:
    """One optimizer step of this process, between its gradient and its update."""

    step: int
    """Counted from 1."""
    batch: int
    """Number of its first batch on each process."""
    batches: list[Batch]
    losses: list[Tensor]
    """One for each batch, on the device."""
    grad_norms: dict[str, Tensor]
    """By tensor, before clipping, on the device."""
    numbers: Underway
    """Mean loss, norm of the gradient."""
    judged: Tensor
    """Those of them that are the same on all processes, on the device."""
    settings: list[dict[str, Any]]
    """Options of the optimizer's groups that belong to this step."""

    def bad(self) -> Tensor:
        """On the device, () float32: 1 where a judged number is not finite, else 0."""
        return (~torch.isfinite(self.judged)).any().float()


def observe(trainer: Trainer, module: GPTModule) -> Observed:
    """The step at hand; waits for nothing."""
    batches, losses = module.accumulated()
    groups = trainer.optimizers[0].param_groups
    loss = module.step_loss
    assert module.grad_norm is not None  # the module asks when it has measured it
    numbers = torch.stack([loss, module.grad_norm])
    return Observed(
        step=trainer.global_step + 1,
        batch=batches_done(trainer) - len(batches) + 1,  # the last of them is not counted as done yet
        batches=batches,
        losses=losses,
        grad_norms=module.grad_norms,
        numbers=Underway(numbers),
        # A loss is this process's own; the gradient is that of all, so that all leave the same steps out.
        judged=numbers if trainer.world_size == 1 else numbers[1:],
        settings=[{name: group[name] for name in _OF_THE_STEP if name in group} for group in groups],
    )


def snapshot_of(
    seen: Observed, trainer: Trainer, module: GPTModule, *, reason: str, grad_norm: float, tokenizer: Tokenizer
) -> DivergenceSnapshot:
    """The step with its weights and optimizer, while these are still what it began with; all processes take part."""
    batches, losses = _of_all_processes(trainer, module, seen)
    optimizer = trainer.optimizers[0].state_dict()
    for group, settings in zip(optimizer["param_groups"], seen.settings, strict=True):
        group.update(settings)
    return DivergenceSnapshot(
        reason=reason,
        step=seen.step,
        batch=seen.batch,
        seed=module.seed,
        world=trainer.world_size,
        precision=str(trainer.precision),
        loss_scale=_loss_scale(trainer),
        clip_val=trainer.gradient_clip_val,
        clip_algorithm=trainer.gradient_clip_algorithm and str(trainer.gradient_clip_algorithm.value),
        config=module.gpt.config,
        tokenizer=tokenizer,
        losses=losses,
        grad_norm=grad_norm,
        grad_norms={name: float(norm) for name, norm in seen.grad_norms.items()},
        batches=batches,
        weights=module.gpt.state_dict(),
        optim=module.optim,
        optimizer=optimizer,
    )


def _of_all_processes(trainer: Trainer, module: GPTModule, seen: Observed) -> tuple[list[Batch], list[float]]:
    """Batches and losses of every process, one process after another: the gradient is the mean of them all."""
    losses = [float(loss) for loss in seen.losses]
    if trainer.world_size == 1:
        return seen.batches, losses
    pairs = _gathered(torch.stack([torch.stack([tokens, targets]) for tokens, targets in seen.batches]))
    all_losses = _gathered(torch.tensor(losses, dtype=torch.float64, device=module.device))
    return [(tokens, targets) for tokens, targets in pairs], all_losses.tolist()


def _gathered(mine: Tensor) -> Tensor:
    """(N, ...) of each process -> (processes * N, ...)."""
    parts = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, mine)
    return torch.cat(parts)


def _loss_scale(trainer: Trainer) -> float:
    plugin = trainer.precision_plugin
    return float(plugin.scaler.get_scale()) if isinstance(plugin, MixedPrecision) and plugin.scaler else 1.0

"""Do a diverged step again from its snapshot: forward, backward, and the update that was not made."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from minigpt.errors import CheckpointError
from minigpt.model.gpt import GPT
from minigpt.optim.build import OPTIMIZERS, build_optimizer
from minigpt.optim.config import OptimConfig
from minigpt.runs.divergence_snapshot import DivergenceSnapshot
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.precision import autocast, weights_dtype
from minigpt.system.randomness import seed_dropout


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What came out when the step of a snapshot was done again."""

    losses: list[float]
    grad_norm: float
    """Before clipping."""
    grad_norms: dict[str, float]
    """Norm of each tensor's gradient, before clipping."""
    token_losses: list[Tensor]
    """Loss of every target without dropout, a (B, T) for each batch."""
    update_norms: dict[str, float]
    """Norm of what the update would have added to each tensor, after clipping: nan where it is not finite."""


def replay(snapshot: DivergenceSnapshot, device: torch.device) -> Replay:
    """Do the step again over the batches of all its processes, with the same dropout; then its update.

    The snapshot's own weights stay as they are. Raises CheckpointError where its optimizer state cannot be used.
    """
    gpt = GPT(snapshot.config)
    gpt.load_state_dict(snapshot.weights)
    gpt = use_cpu_kernels(gpt.to(device, weights_dtype(snapshot.precision)).train())
    losses, token_losses = [], []
    for number, (tokens, targets) in enumerate(snapshot.batches):
        rank, place = divmod(number, len(snapshot.batches) // snapshot.world)
        seed_dropout(snapshot.seed, rank, snapshot.batch + place, device)
        with autocast(snapshot.precision, device):
            loss = gpt.loss(tokens.to(device), targets.to(device))
        (loss / len(snapshot.batches) * snapshot.loss_scale).backward()
        losses.append(float(loss.detach()))
        with torch.no_grad(), autocast(snapshot.precision, device):
            token_losses.append(gpt.eval().loss(tokens.to(device), targets.to(device), reduction="none").cpu())
        gpt.train()
    grads = {name: parameter.grad for name, parameter in gpt.named_parameters() if parameter.grad is not None}
    if snapshot.loss_scale != 1:
        torch._foreach_div_(list(grads.values()), snapshot.loss_scale)
    grad_norm = get_total_norm(list(grads.values()))
    grad_norms = norms_by_tensor(grads)
    return Replay(
        losses=losses,
        grad_norm=float(grad_norm),
        grad_norms=grad_norms,
        token_losses=token_losses,
        update_norms=_update(snapshot, gpt, grad_norm),
    )


def _update(snapshot: DivergenceSnapshot, gpt: GPT, grad_norm: Tensor) -> dict[str, float]:
    """Clip the gradient at hand, make the update, and measure what it added to each tensor."""
    parameters = [parameter for parameter in gpt.parameters() if parameter.grad is not None]
    if snapshot.clip_val and snapshot.clip_algorithm == "value":
        clip_grad_value_(parameters, snapshot.clip_val)
    elif snapshot.clip_val:
        clip_grads_with_norm_(parameters, snapshot.clip_val, grad_norm)
    before = {name: parameter.detach().clone() for name, parameter in gpt.named_parameters()}
    optimizer = _restored_optimizer(snapshot, gpt)
    try:
        optimizer.step()
    except Exception as error:  # settings out of a file that was made by hand
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"its optimizer cannot make the update: {reason[0]}") from error
    return norms_by_tensor({name: parameter.detach() - before[name] for name, parameter in gpt.named_parameters()})


def _restored_optimizer(snapshot: DivergenceSnapshot, gpt: GPT) -> torch.optim.Optimizer:
    """The optimizer as it was before the update. An older snapshot does not name it: the first that its state fits."""
    tried = [snapshot.optim] if snapshot.optim else [OptimConfig(name=name) for name in OPTIMIZERS]
    faults: list[CheckpointError] = []
    for optim in tried:
        optimizer = build_optimizer(gpt, optim, fused=snapshot.precision != "16-mixed")
        try:
            optimizer.load_state_dict(snapshot.optimizer)
        except CheckpointError as error:
            faults.append(error)
            continue
        for group, saved in zip(optimizer.param_groups, snapshot.optimizer["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name != "params"})
        return optimizer
    raise faults[0]


def norms_by_tensor(tensors: dict[str, Tensor]) -> dict[str, float]:
    """The 2-norm of each."""
    return {name: float(torch.linalg.vector_norm(tensor)) for name, tensor in tensors.items()}

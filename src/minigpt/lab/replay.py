"""Do a step that diverged again, from its bundle: forward, backward, and the update that was not made."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm

from minigpt.model.gpt import GPT
from minigpt.optim.config import OptimConfig
from minigpt.optim.groups import build_optimizer
from minigpt.runs.divergence_snapshot import Bundle
from minigpt.system.precision import autocast, weights_dtype
from minigpt.system.randomness import seed_dropout


@dataclass(frozen=True, kw_only=True, eq=False)
class Replay:
    """What the step of a bundle comes to when it is done again."""

    losses: list[float]
    grad_norm: float
    """Before clipping."""
    grad_norms: dict[str, float]
    """Of each tensor, before clipping."""
    token_losses: list[Tensor]
    """For each batch (B, T): the loss of every target, without dropout."""
    update_norms: dict[str, float]
    """Of what the update would have added to each tensor, by the optimizer's state and the gradient as it was clipped:
    nan where it would have spoilt it."""


def replay(bundle: Bundle, device: torch.device) -> Replay:
    """Do the step again over the batches of all its processes, with the same dropout; then its update.

    The bundle's own weights stay as they are.
    """
    gpt = GPT(bundle.config)
    gpt.load_state_dict(bundle.weights)
    gpt = gpt.to(device, weights_dtype(bundle.precision)).train()
    losses, token_losses = [], []
    for number, (tokens, targets) in enumerate(bundle.batches):
        rank, place = divmod(number, len(bundle.batches) // bundle.world)
        seed_dropout(bundle.seed, rank, bundle.batch + place, device)
        with autocast(bundle.precision, device):
            loss = gpt.loss(tokens.to(device), targets.to(device))
        (loss / len(bundle.batches) * bundle.loss_scale).backward()
        losses.append(float(loss.detach()))
        with torch.no_grad(), autocast(bundle.precision, device):
            token_losses.append(gpt.eval().loss(tokens.to(device), targets.to(device), reduction="none").cpu())
        gpt.train()
    grads = {name: parameter.grad for name, parameter in gpt.named_parameters() if parameter.grad is not None}
    if bundle.loss_scale != 1:
        torch._foreach_div_(list(grads.values()), bundle.loss_scale)
    grad_norm = get_total_norm(list(grads.values()))
    grad_norms = norms_by_tensor(grads)
    return Replay(
        losses=losses,
        grad_norm=float(grad_norm),
        grad_norms=grad_norms,
        token_losses=token_losses,
        update_norms=_update(bundle, gpt, grad_norm),
    )


def _update(bundle: Bundle, gpt: GPT, grad_norm: Tensor) -> dict[str, float]:
    """Clip the gradient at hand, make the update, and measure what it added to each tensor."""
    parameters = [parameter for parameter in gpt.parameters() if parameter.grad is not None]
    if bundle.clip_val and bundle.clip_algorithm == "value":
        clip_grad_value_(parameters, bundle.clip_val)
    elif bundle.clip_val:
        clip_grads_with_norm_(parameters, bundle.clip_val, grad_norm)
    optimizer = build_optimizer(gpt, OptimConfig(name=bundle.optimizer_name), fused=bundle.precision != "16-mixed")
    optimizer.load_state_dict(bundle.optimizer)
    before = {name: parameter.detach().clone() for name, parameter in gpt.named_parameters()}
    optimizer.step()
    return norms_by_tensor({name: parameter.detach() - before[name] for name, parameter in gpt.named_parameters()})


def norms_by_tensor(tensors: dict[str, Tensor]) -> dict[str, float]:
    """The 2-norm of each."""
    return {name: float(torch.linalg.vector_norm(tensor)) for name, tensor in tensors.items()}

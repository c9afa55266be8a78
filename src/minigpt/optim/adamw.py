"""AdamW (Loshchilov and Hutter 2019) over all parameters."""

from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from minigpt.optim.config import OptimConfig
from minigpt.optim.groups import Groups, parameter_groups


def groups(model: nn.Module, config: OptimConfig) -> Groups:
    """Matrices, which decay, and the rest."""
    return parameter_groups(model, config.weight_decay)


def build(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    """`fused` updates all parameters in one kernel, where the device has one (CUDA, CPU, MPS)."""
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def at_step(group: dict[str, Any], config: OptimConfig, step: int, rate: float) -> dict[str, Any]:
    """The settings of a group in the update number `step`, where the schedule gives the learning rate `rate`."""
    return {"lr": rate * group.get("lr_scale", 1.0)}

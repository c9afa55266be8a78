"""Which parameters decay, and the optimizer over them."""

from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from minigpt.errors import ConfigError
from minigpt.optim.config import OptimConfig


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups that hold every trainable parameter of `model` exactly once: those that decay and those that do not.

    Matrices and embedding tables (two or more axes) decay; biases and gains of norms (one axis) do not: a decayed gain
    only fights the norm it belongs to. A tied table is one parameter and stands once. Order is that of
    `named_parameters`, so an optimizer state that was saved by position finds its parameter again.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ConfigError("the model has no trainable parameter: nothing to optimise")
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, config: OptimConfig, *, fused: bool = True) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019) over `parameter_groups`.

    `fused=True` updates all parameters in one kernel, where the device has one (CUDA, CPU, MPS). It must be off under
    fp16 with gradient clipping: the fused kernel would unscale the gradients after they were clipped.
    """
    return AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=fused,
    )


def apply_settings(optimizer: Optimizer, config: OptimConfig) -> None:
    """Put the settings of `config` into an optimizer whose state was restored, which brought the old settings along."""
    for group in optimizer.param_groups:
        decays = any(parameter.ndim >= 2 for parameter in group["params"])
        group.update(
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay if decays else 0.0,
            fused=optimizer.defaults["fused"],
        )

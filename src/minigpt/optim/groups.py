"""Which parameters decay, which are matrices for Muon, and the optimizer over them."""

from collections.abc import Callable
from typing import Any, cast

from torch import nn
from torch.optim import AdamW, Optimizer

from minigpt.errors import ConfigError
from minigpt.optim.config import OptimConfig, OptimizerName
from minigpt.optim.muon import Muon

Groups = list[dict[str, Any]]


def parameter_groups(model: nn.Module, weight_decay: float) -> Groups:
    """Two groups that hold every trainable parameter of `model` exactly once: those that decay and those that do not.

    Matrices and embedding tables (two or more axes) decay; biases and gains of norms (one axis) do not: a decayed gain
    only fights the norm it belongs to. A tied table is one parameter and stands once. Order is that of
    `named_parameters`, so an optimizer state that was saved by position finds its parameter again.

    Parameters to which the model's `learning_rate_scales` gives another scale than 1 are a group for each, whose rate
    is multiplied by `lr_scale`. Their decay is divided by it: what one step takes from a weight is the product of both.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ConfigError("the model has no trainable parameter: nothing to optimise")
    scale_of: dict[nn.Parameter, float] = getattr(model, "learning_rate_scales", dict)()
    by_kind: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for parameter in trainable:
        by_kind.setdefault((parameter.ndim >= 2, scale_of.get(parameter, 1.0)), []).append(parameter)
    groups: Groups = []
    for (decays, scale), parameters in by_kind.items():
        groups.append({"params": parameters, "weight_decay": weight_decay / scale if decays else 0.0})
        if scale != 1.0:
            groups[-1]["lr_scale"] = scale
    return [group for group in groups if group["params"]]


def muon_groups(model: nn.Module, config: OptimConfig) -> Groups:
    """The groups of `parameter_groups`, the matrices of linear layers in `model.blocks` taken out into one for Muon.

    A layer that makes several matrices at once says so: its module's `row_parts` maps its name to their rows.
    """
    rows_of: dict[nn.Parameter, tuple[int, ...]] = {}
    for parent in model.get_submodule("blocks").modules():
        parts: dict[str, tuple[int, ...]] = getattr(parent, "row_parts", {})
        for name, layer in parent.named_children():
            if isinstance(layer, nn.Linear) and layer.weight.requires_grad:
                rows_of[cast(nn.Parameter, layer.weight)] = parts.get(name, (layer.out_features,))
    others = parameter_groups(model, config.weight_decay)
    for group in others:
        group["params"] = [parameter for parameter in group["params"] if parameter not in rows_of]
        group["use_muon"] = False
    muon: dict[str, Any] = {"params": list(rows_of), "parts": list(rows_of.values()), "use_muon": True}
    muon["weight_decay"] = config.weight_decay
    return [group for group in (muon, *others) if group["params"]]


def _build_adamw(model: nn.Module, config: OptimConfig, fused: bool) -> Optimizer:
    groups = parameter_groups(model, config.weight_decay)
    optimizer = AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)
    set_learning_rate(optimizer, config, config.lr)
    return optimizer


def _build_muon(model: nn.Module, config: OptimConfig, fused: bool) -> Optimizer:
    optimizer = Muon(muon_groups(model, config), fused=fused)
    apply_settings(optimizer, config)
    return optimizer


OPTIMIZERS: dict[OptimizerName, Callable[[nn.Module, OptimConfig, bool], Optimizer]] = {
    "adamw": _build_adamw,  # Loshchilov and Hutter 2019
    "muon": _build_muon,  # Jordan 2024
}


def build_optimizer(model: nn.Module, config: OptimConfig, *, fused: bool = True) -> Optimizer:
    """The optimizer that `config.name` names, over all of `model`.

    `fused=True` updates AdamW's parameters in one kernel, where the device has one (CUDA, CPU, MPS). It must be off
    under fp16 with gradient clipping: the fused kernel would unscale the gradients after they were clipped.
    """
    return OPTIMIZERS[config.name](model, config, fused)


def apply_settings(optimizer: Optimizer, config: OptimConfig) -> None:
    """Put the settings of `config` into an optimizer whose state was restored, which brought the old settings along."""
    for group in optimizer.param_groups:
        decays = any(parameter.ndim >= 2 for parameter in group["params"])
        group["weight_decay"] = config.weight_decay / group.get("lr_scale", 1.0) if decays else 0.0
        if group.get("use_muon"):
            group.update(momentum=config.muon_momentum)
        else:
            group.update(betas=config.betas, eps=config.eps, fused=optimizer.defaults["fused"])
    set_learning_rate(optimizer, config, config.lr)


def set_learning_rate(optimizer: Optimizer, config: OptimConfig, rate: float) -> None:
    """Give AdamW's groups `rate`, which peaks at `lr`, by their scale, and Muon's the same share of their own peak."""
    for group in optimizer.param_groups:
        group["lr"] = rate * (config.muon_lr / config.lr if group.get("use_muon") else group.get("lr_scale", 1.0))

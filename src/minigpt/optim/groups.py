"""Parameter groups: which parameters decay, and whose learning rate is scaled."""

from typing import Any

from torch import nn

from minigpt.errors import ConfigError

Groups = list[dict[str, Any]]
"""As torch.optim.Optimizer takes them: dicts with `params` and settings."""


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

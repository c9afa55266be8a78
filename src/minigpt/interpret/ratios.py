"""How large a gradient and an update are beside the weights that they change."""

from collections.abc import Mapping

import torch
from torch import Tensor

from minigpt.model.gpt import GPT


def matrices(model: GPT) -> dict[str, Tensor]:
    """The weight matrices by their layers' names, a tied one once: gains and biases begin at 0 or 1 and tell little."""
    return {
        name.removesuffix(".weight"): weight.detach() for name, weight in model.named_parameters() if weight.dim() > 1
    }


def gradients(model: GPT) -> dict[str, Tensor]:
    """The gradients of `matrices`, as far as there are any."""
    found = ((name, weight.grad) for name, weight in model.named_parameters() if weight.dim() > 1)
    return {name.removesuffix(".weight"): grad for name, grad in found if grad is not None}


def norm_ratios(parts: Mapping[str, Tensor], wholes: Mapping[str, Tensor]) -> dict[str, float]:
    """|part| / |whole| of each name, Frobenius norms; a whole that is nothing has no ratio."""
    pairs = [(name, parts[name], wholes[name]) for name in parts]
    norms = [torch.stack([part.norm(), whole.norm()]).float() for _, part, whole in pairs]
    values = torch.stack(norms).tolist() if norms else []  # one wait for the device
    return {name: part / whole for (name, *_), (part, whole) in zip(pairs, values, strict=True) if whole > 0}

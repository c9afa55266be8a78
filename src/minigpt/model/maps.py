"""Attention maps: which earlier tokens each head of each layer reads, to look at."""

import torch
from torch import Tensor

from minigpt.model.attention import Attention, attention_weights
from minigpt.model.gpt import GPT
from minigpt.model.positions import PositionSignals


@torch.no_grad()
def attention_maps(model: GPT, tokens: Tensor) -> Tensor:
    """tokens (B, T) int64 -> attention weights (L, B, H, T, T) of a model with at least one layer.

    Row t of a map says how much token t takes from tokens 0..t; it sums to 1. Weights are those before dropout,
    whichever kernel the model runs.
    """
    maps: list[Tensor] = []

    def look(attention: Attention, inputs: tuple[Tensor, PositionSignals]) -> None:
        x, signals = inputs[:2]
        q, k, _ = attention.project(x, signals)
        maps.append(attention_weights(q, k, signals.bias))  # (B, H, T, T)

    hooks = [module.register_forward_pre_hook(look) for module in model.modules() if isinstance(module, Attention)]
    try:
        model.hidden(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(maps)

"""Attention maps: which earlier tokens each head of each layer reads, to look at."""

import torch
from torch import Tensor

from minigpt.interpret.tracing import trace
from minigpt.model.gpt import GPT


@torch.no_grad()
def attention_maps(model: GPT, tokens: Tensor) -> Tensor:
    """tokens (B, T) int64 -> attention weights (L, B, H, T, T) of a model with at least one layer.

    Row t of a map says how much token t takes from tokens 0..t; it sums to 1. Weights are those before dropout,
    whichever kernel the model runs.
    """
    return trace(model, tokens, keep=["pattern"]).stack("pattern")

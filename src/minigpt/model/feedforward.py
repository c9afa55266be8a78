"""The feed-forward layer: two matrices and an activation, three with a gate, or a layer of the user's own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.config import ActivationName, GPTConfig
from minigpt.model.custom import call, find_variant, try_once
from minigpt.system.cpu_kernels.gradients import squared_relu
from minigpt.system.cpu_kernels.swap import replaced_on_cpu

Activation = Callable[[Tensor], Tensor]


class FeedForward(nn.Module):
    """down(activation(up(x))), each position by itself (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, config: GPTConfig, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(config.n_embd, config.ff_width, bias=config.bias)
        self.down = nn.Linear(config.ff_width, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), through (B, T, F)."""
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(FeedForward):
    """down(activation(gate(x)) * up(x)): the gate decides how much passes (Shazeer 2020, section 2)."""

    def __init__(self, config: GPTConfig, activation: Activation) -> None:
        super().__init__(config, activation)
        self.gate = nn.Linear(config.n_embd, config.ff_width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), through (B, T, F)."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


def gelu_tanh(x: Tensor) -> Tensor:
    """Approximate gelu by tanh, as GPT-2 does (Hendrycks and Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


@replaced_on_cpu(squared_relu)
def relu2(x: Tensor) -> Tensor:
    """relu(x)^2 (Primer; So et al. 2021, section 4.2)."""
    return F.relu(x).square()


FEEDFORWARDS: dict[ActivationName, tuple[type[FeedForward], Activation]] = {
    "relu": (FeedForward, F.relu),  # Vaswani et al. 2017
    "gelu": (FeedForward, F.gelu),  # Hendrycks and Gimpel 2016, the exact form
    "gelu_tanh": (FeedForward, gelu_tanh),
    "relu2": (FeedForward, relu2),
    "swiglu": (GatedFeedForward, F.silu),  # Shazeer 2020
    "geglu": (GatedFeedForward, F.gelu),  # Shazeer 2020
}
"""Layers and their activations by `model.activation`, which also takes the dotted name of

    def snake(x): ...                              a function, any shape -> the same shape: FeedForward with it
    class Snake(nn.Module):                        a module without arguments: FeedForward with it
        def forward(self, x): ...                  any shape -> the same shape
    class Experts(FeedForward):                    derived from FeedForward: the whole layer
        def __init__(self, config): ...            config: GPTConfig
        def forward(self, x): ...                  (B, T, C) -> (B, T, C), each token by itself

A layer's linear layer named `down`, if it has one, is initialised as the end of a residual branch. As each token is
computed by itself, a KV cache needs nothing of them.
"""


def build_feedforward(config: GPTConfig) -> FeedForward:
    """Build the feed-forward layer that `config.activation` names; ConfigError for one of the user's that fails."""
    name = config.activation
    found = find_variant("activation", name, FEEDFORWARDS)
    if isinstance(found, tuple):
        kind, activation = found
        return kind(config, activation)
    layer: FeedForward
    if isinstance(found, type) and issubclass(found, FeedForward):
        layer = call("activation", name, found, config)
    else:
        is_class = isinstance(found, type)
        layer = FeedForward(config, call("activation", name, found) if is_class else found)
        width = (2, 3, config.ff_width)
        try_once("activation", name, lambda: layer.activation(torch.zeros(width)), width)
    shape = (2, 3, config.n_embd)
    try_once("activation", name, lambda: layer(torch.zeros(shape)), shape)
    return layer

"""The feed-forward layer: two matrices and an activation, or three with a gate."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.config import ActivationName, GPTConfig
from minigpt.model.linear import Linear
from minigpt.system.cpu_kernels.gradients import on_cpu, squared_relu

Activation = Callable[[Tensor], Tensor]


class FeedForward(nn.Module):
    """down(activation(up(x))), each position by itself (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, config: GPTConfig, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.up = Linear(config.n_embd, config.ff_width, bias=config.bias)
        self.down = Linear(config.ff_width, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), through (B, T, F)."""
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(FeedForward):
    """down(activation(gate(x)) * up(x)): the gate decides how much passes (Shazeer 2020, section 2)."""

    def __init__(self, config: GPTConfig, activation: Activation) -> None:
        super().__init__(config, activation)
        self.gate = Linear(config.n_embd, config.ff_width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C), through (B, T, F)."""
        return self.down(self.activation(self.gate(x)) * self.up(x))


def gelu_tanh(x: Tensor) -> Tensor:
    """GPT-2's approximation of gelu by tanh (Hendrycks and Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


def relu2(x: Tensor) -> Tensor:
    """relu(x)^2 (Primer; So et al. 2021, section 4.2)."""
    return squared_relu(x) if on_cpu(x) else F.relu(x).square()


FEEDFORWARDS: dict[ActivationName, tuple[type[FeedForward], Activation]] = {
    "relu": (FeedForward, F.relu),  # Vaswani et al. 2017
    "gelu": (FeedForward, F.gelu),  # Hendrycks and Gimpel 2016, the exact form
    "gelu_tanh": (FeedForward, gelu_tanh),
    "relu2": (FeedForward, relu2),
    "swiglu": (GatedFeedForward, F.silu),  # Shazeer 2020
    "geglu": (GatedFeedForward, F.gelu),  # Shazeer 2020
}


def feed_forward(config: GPTConfig) -> FeedForward:
    """The feed-forward layer that `config.activation` names."""
    kind, activation = FEEDFORWARDS[config.activation]
    return kind(config, activation)

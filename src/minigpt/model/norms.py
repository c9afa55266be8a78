"""Normalisation over the channels: layernorm and rmsnorm."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.config import NormName


class LayerNorm(nn.Module):
    """(x - mean) / standard deviation * weight + bias, over the last axis (Ba et al. 2016, section 3)."""

    def __init__(self, width: int, bias: bool, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


class RMSNorm(nn.Module):
    """x / root mean square(x) * weight, over the last axis (Zhang and Sennrich 2019, equation 4); no bias."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        # Under autocast x may be bfloat16: torch's one-pass kernel wants the weight in the same dtype.
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)


NORMS: dict[NormName, Callable[[int, bool, float], nn.Module]] = {
    "layernorm": LayerNorm,
    "rmsnorm": lambda width, _bias, epsilon: RMSNorm(width, epsilon),
}

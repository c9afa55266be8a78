"""Normalisation over the channels: layernorm and rmsnorm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.config import GPTConfig, NormName
from minigpt.system.cpu_kernels.gradients import on_cpu, unit_rms


class LayerNorm(nn.Module):
    """(x - mean) / standard deviation * weight + bias, over the last axis (Ba et al. 2016, section 3).

    Without norm_gain there is neither weight nor bias.
    """

    def __init__(self, width: int, config: GPTConfig) -> None:
        super().__init__()
        self.width = (width,)
        self.weight = nn.Parameter(torch.ones(width)) if config.norm_gain else None
        self.bias = nn.Parameter(torch.zeros(width)) if config.norm_gain and config.bias else None
        self.epsilon = config.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return F.layer_norm(x, self.width, self.weight, self.bias, self.epsilon)


class RMSNorm(nn.Module):
    """x / root mean square(x) * weight, over the last axis (Zhang and Sennrich 2019, equation 4); no bias.

    Without norm_gain there is no weight.
    """

    def __init__(self, width: int, config: GPTConfig) -> None:
        super().__init__()
        self.width = (width,)
        self.weight = nn.Parameter(torch.ones(width)) if config.norm_gain else None
        self.epsilon = config.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        if on_cpu(x):
            unit = unit_rms(x, self.epsilon)
            return unit if self.weight is None else unit * self.weight
        # Under autocast x may be bfloat16: torch's one-pass kernel wants the weight in the same dtype.
        return F.rms_norm(x, self.width, None if self.weight is None else self.weight.to(x.dtype), self.epsilon)


NORMS: dict[NormName, type[LayerNorm] | type[RMSNorm]] = {"layernorm": LayerNorm, "rmsnorm": RMSNorm}

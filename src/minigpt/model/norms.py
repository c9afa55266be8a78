"""Normalisation over the channels: layer norm, RMS norm, or a class of the user's own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.model.config import GPTConfig, NormName
from minigpt.model.custom import build_module, try_once
from minigpt.system.cpu_kernels import gradients
from minigpt.system.cpu_kernels.swap import replaced_on_cpu


class LayerNorm(nn.LayerNorm):
    """(x - mean) / standard deviation * weight + bias, over the last axis (Ba et al. 2016, section 3).

    Without norm_gain there is neither weight nor bias.
    """

    def __init__(self, width: int, config: GPTConfig) -> None:
        super().__init__(width, config.norm_eps, elementwise_affine=config.norm_gain, bias=config.bias)


@replaced_on_cpu(gradients.RMSNorm)
class RMSNorm(nn.RMSNorm):
    """x / root mean square(x) * weight, over the last axis (Zhang and Sennrich 2019, equation 4); no bias.

    Without norm_gain there is no weight.
    """

    def __init__(self, width: int, config: GPTConfig) -> None:
        super().__init__(width, config.norm_eps, elementwise_affine=config.norm_gain)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        # Under autocast x may be bfloat16: torch's fused kernel needs the weight in the same dtype.
        weight = None if self.weight is None else self.weight.to(x.dtype)
        return F.rms_norm(x, self.normalized_shape, weight, self.eps)


NORMS: dict[NormName, type[nn.Module]] = {"layernorm": LayerNorm, "rmsnorm": RMSNorm}
"""Norms by `model.norm`, which also takes the dotted name of a class of the same protocol:

    class ScaleNorm(nn.Module):                    any nn.Module
        def __init__(self, width, config): ...     width of the last axis, GPTConfig
        def forward(self, x): ...                  (..., width) -> (..., width), each token by itself
        def reset_parameters(self): ...            only with parameters or buffers of its own, see model/init.py

As each token is normalised by itself, a KV cache needs nothing of it.
"""


def build_norm(config: GPTConfig) -> nn.Module:
    """Build a norm over n_embd channels that `config.norm` names; ConfigError for one of the user's that fails."""
    width = config.n_embd
    norm: nn.Module = build_module("norm", config.norm, NORMS, width, config)
    try_once("norm", config.norm, lambda: norm(torch.zeros(2, 3, width)), (2, 3, width))
    return norm

"""RMS norm and squared ReLU with their gradients written out: torch needs a dozen passes over memory for each."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.system.cpu_kernels.eager_mode import runs_eagerly


class RMSNorm(nn.RMSNorm):
    """x / root mean square(x) * weight, over the last axis."""

    eps: float

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        if on_cpu(x):
            unit = unit_rms(x, self.eps)
            return unit if self.weight is None else unit * self.weight
        return F.rms_norm(x, self.normalized_shape, None if self.weight is None else self.weight.to(x.dtype), self.eps)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2."""
    if not on_cpu(x):
        return F.relu(x).square()
    result: Tensor = _SquaredReLU.apply(x)
    return result


def on_cpu(x: Tensor) -> bool:
    """Whether x is on a CPU, in a dtype and at a moment that the functions below are for."""
    return x.is_cpu and x.dtype in {torch.float32, torch.float64} and runs_eagerly()


def unit_rms(x: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) over the last axis, as `F.rms_norm` without a weight."""
    result: Tensor = _UnitRMS.apply(x, epsilon)
    return result


def _inverse_rms(x: Tensor, epsilon: float) -> Tensor:
    """(..., C) -> (..., 1)."""
    return x.square().mean(dim=-1, keepdim=True).add(epsilon).rsqrt()


class _UnitRMS(torch.autograd.Function):
    """With s = 1 / rms(x): y = s x, dx = s g - s^3 mean(g x) x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, epsilon: float) -> Tensor:
        scale = _inverse_rms(x, epsilon)
        ctx.save_for_backward(x, scale)
        ctx.epsilon = epsilon
        return x * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (g,) = gradients
        x, scale = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the scale is a function of x
            scale = _inverse_rms(x, ctx.epsilon)
        along = (g * x).mean(dim=-1, keepdim=True) * scale.pow(3)
        return torch.addcmul(g * scale, x, along, value=-1), None


class _SquaredReLU(torch.autograd.Function):
    """dx = 2 relu(x) g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.relu(x).square_()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,) = gradients
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: nothing may be overwritten
            return 2 * F.relu(x) * g
        return F.relu(x).mul_(g).mul_(2)

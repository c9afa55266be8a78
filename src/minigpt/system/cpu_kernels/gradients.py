"""Gradients written out, for a CPU: torch takes these two operations apart, into a dozen passes over memory."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.system.cpu_kernels.eager_mode import runs_eagerly


def on_cpu(x: Tensor) -> bool:
    """Whether the functions below take x: other devices have kernels of their own for them."""
    return x.is_cpu and x.dtype in {torch.float32, torch.float64} and runs_eagerly()


def unit_rms(x: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x^2) + epsilon) over the last axis, as `F.rms_norm` without a weight."""
    result: Tensor = _UnitRMS.apply(x, epsilon)
    return result


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2."""
    result: Tensor = _SquaredReLU.apply(x)
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

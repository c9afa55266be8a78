"""float32 products on a CPU by oneDNN, one of torch's two libraries for them: plain, with gradients, packed."""

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from minigpt.system.cpu_kernels.eager_mode import runs_eagerly

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_can(x: Tensor, weight: Tensor) -> bool:
    """Whether `product` takes x and weight: no autocast, compiled code or transform of torch.func."""
    return (
        HAS_ONEDNN
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and runs_eagerly()
    )


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., in), weight (out, in), bias (out,) -> x W^T + b (..., out), with gradients where they are required."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        result: Tensor = _Product.apply(x, weight, bias)
        return result
    return _multiply(x, weight, bias)


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return result


class _Product(torch.autograd.Function):
    """oneDNN's product with the gradients that torch lacks for it: two more products."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients  # (..., out)
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, weight.shape[0])  # (N, out)
        # By `product`, not `_multiply`: under create_graph these are differentiable in turn.
        return (
            product(gradient, weight.t(), None) if wants_x else None,
            _weight_gradient(rows, x.reshape(-1, weight.shape[1])) if wants_weight else None,
            rows.sum(0) if wants_bias else None,
        )


def _weight_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """gradient^T x: (N, out), (N, in) -> (out, in). The narrower comes first: oneDNN copies it."""
    if gradient.shape[1] <= x.shape[1]:
        return product(gradient.t(), x.t(), None)
    return product(x.t(), gradient.t(), None).t().contiguous()


class PackedWeight(NamedTuple):
    """A copy of a weight in the order in which oneDNN reads it, with the version of the weight that was copied."""

    copy: Tensor
    version: int
    address: int

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """Copy weight (out, in); not an inference tensor, which counts no versions."""
        copy = torch.ops.mkldnn._reorder_linear_weight.default(weight.detach())
        return cls(copy, weight._version, weight.data_ptr())

    def is_of(self, weight: Tensor) -> bool:
        """Whether it is still a copy of `weight`: an optimizer step changes that in place."""
        return self.version == weight._version and self.address == weight.data_ptr()

"""Cross-entropy of the next token; the logits of a large vocabulary are never all in memory."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from minigpt.model.config import loss_rows

IGNORE_INDEX = -100
"""Target that is not counted, torch's default of `ignore_index`: no loss, no token, no byte."""

Reduction = Literal["mean", "none"]
Head = Callable[[Tensor], Tensor]
"""(N, C) -> logits (N, V)."""


def next_token_loss(
    head: Head,
    weights: Sequence[Parameter],
    hidden: Tensor,
    targets: Tensor,
    *,
    vocab_size: int,
    reduction: Reduction,
) -> Tensor:
    """Cross-entropy in nats of head(hidden), in float32: hidden (N, C), targets (N,) -> a mean (), or (N,) for "none".

    `weights` are the parameters of `head`. A batch of up to `loss_rows` tokens is computed at once, and so is compiled
    code, as the compiler fuses the steps of the softmax by itself. Everything else goes in chunks. Targets of
    IGNORE_INDEX cost 0 and are left out of the mean; where no target counts, the mean is 0, and so is its gradient.
    """
    rows = loss_rows(vocab_size)
    if len(hidden) <= rows or torch.compiler.is_compiling():
        return _cross_entropy(head(hidden), targets, reduction)
    if not torch.is_grad_enabled():
        chunks = zip(hidden.split(rows), targets.split(rows), strict=True)
        losses = torch.cat([_cross_entropy(head(h), y, "none") for h, y in chunks])
    elif reduction == "none":  # the gradient of each loss is not known yet, so no chunk can be finished
        return _cross_entropy(head(hidden), targets, reduction)
    else:
        weights = [weight for weight in weights if weight.requires_grad]
        losses = _SumInChunks.apply(head, rows, targets, hidden, *weights)
    return losses if reduction == "none" else losses.sum() / (targets != IGNORE_INDEX).sum().clamp(min=1)


def _cross_entropy(logits: Tensor, targets: Tensor, reduction: Literal["mean", "sum", "none"]) -> Tensor:
    loss = F.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction=reduction)
    return loss.masked_fill((targets == IGNORE_INDEX).all(), 0.0) if reduction == "mean" else loss


class _SumInChunks(torch.autograd.Function):
    """The sum of the losses, each chunk taken forward and at once backward, so that its logits can be freed.

    What remains for the backward pass are the gradients of `hidden` and of the head's weights, to be multiplied by one
    number; nothing is computed twice (the idea is that of Hsu et al. 2024, "Liger Kernel", section 3.2). They are those
    of the sum, not of the mean, which float16 might not hold.
    """

    @staticmethod
    def forward(ctx: Any, head: Head, rows: int, targets: Tensor, hidden: Tensor, *weights: Parameter) -> Tensor:
        """targets (N,), hidden (N, C) -> ()."""
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradient = torch.empty_like(hidden)
        gradients = [torch.zeros_like(weight) for weight in weights]
        chunks = zip(hidden.split(rows), targets.split(rows), hidden_gradient.split(rows), strict=True)
        for chunk, y, into in chunks:
            with torch.enable_grad():
                h = chunk.detach().requires_grad_()
                loss = _cross_entropy(head(h), y, "sum")
            own, *others = torch.autograd.grad(loss, (h, *weights))
            into.copy_(own)
            total += loss.detach()
            for gradient, other in zip(gradients, others, strict=True):
                gradient.add_(other)
        ctx.save_for_backward(hidden_gradient, *gradients)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply the kept gradients by that of the sum, ()."""
        return (None, None, None, *(gradient * scale.to(gradient.dtype) for gradient in ctx.saved_tensors))

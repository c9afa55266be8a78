"""Cross-entropy of the next token; a large vocabulary's logits are never in memory all at once."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter

from minigpt.model.sizes import loss_rows

IGNORE_INDEX = -100
"""A target of this value, torch's own for it, counts for nothing: no loss, no token, no byte."""

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

    `weights` are the parameters of `head`. A batch of up to `loss_rows` tokens is done in one go, and so is what is
    compiled: the compiler fuses the steps of the softmax by itself. Everything else goes piece by piece. Targets of
    IGNORE_INDEX cost 0 and are left out of the mean; where no target counts, the mean is 0, and so is its gradient.
    """
    rows = loss_rows(vocab_size)
    if len(hidden) <= rows or torch.compiler.is_compiling():
        return _cross_entropy(head(hidden), targets, reduction)
    if not torch.is_grad_enabled():
        pieces = zip(hidden.split(rows), targets.split(rows), strict=True)
        losses = torch.cat([_cross_entropy(head(h), y, "none") for h, y in pieces])
    elif reduction == "none":  # what each loss will count for is not known yet, so no piece can be done with
        return _cross_entropy(head(hidden), targets, reduction)
    else:
        weights = [weight for weight in weights if weight.requires_grad]
        losses = _SumByPieces.apply(head, rows, targets, hidden, *weights)
    return losses if reduction == "none" else losses.sum() / (targets != IGNORE_INDEX).sum().clamp(min=1)


def _cross_entropy(logits: Tensor, targets: Tensor, reduction: Literal["mean", "sum", "none"]) -> Tensor:
    loss = F.cross_entropy(logits.float(), targets, ignore_index=IGNORE_INDEX, reduction=reduction)
    return loss.masked_fill((targets == IGNORE_INDEX).all(), 0.0) if reduction == "mean" else loss


class _SumByPieces(torch.autograd.Function):
    """The sum of the losses, each piece taken forward and at once backward, so that its logits can go again.

    What remains for the backward pass are the gradients of `hidden` and of the head's weights, to be multiplied by one
    number; nothing is computed twice (Hsu et al. 2024, "Liger Kernel", section 3.2, for the idea). They are those of
    the sum, not of the mean, which float16 might not hold.
    """

    @staticmethod
    def forward(ctx: Any, head: Head, rows: int, targets: Tensor, hidden: Tensor, *weights: Parameter) -> Tensor:
        """targets (N,), hidden (N, C) -> ()."""
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_gradient = torch.empty_like(hidden)
        gradients = [torch.zeros_like(weight) for weight in weights]
        pieces = zip(hidden.split(rows), targets.split(rows), hidden_gradient.split(rows), strict=True)
        for piece, y, into in pieces:
            with torch.enable_grad():
                h = piece.detach().requires_grad_()
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
        """The kept gradients times that of the sum, ()."""
        return (None, None, None, *(gradient * scale.to(gradient.dtype) for gradient in ctx.saved_tensors))

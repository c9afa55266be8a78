"""Edits of activations for `trace` and `edited`: ablate heads, or patch in activations of another pass."""

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor

from minigpt.errors import ConfigError

Edit = Callable[[Tensor], Tensor]
"""Takes an activation and returns its replacement: of the same shape, and not changed in place."""


def zero(x: Tensor) -> Tensor:
    """Edit: replace an activation by zeros."""
    return torch.zeros_like(x)


def zero_heads(*heads: int) -> Edit:
    """Return an edit of `heads`, `query` or `pattern` that sets these heads, counted from 0, to zero.

    The edit raises ConfigError for a head that is not there, and for an activation without heads.
    """
    return partial(_with_heads, heads=heads, value=None)


def patch_heads(value: Tensor, *heads: int) -> Edit:
    """Return an edit of `heads`, `query` or `pattern` that replaces these heads by those of `value`, of its shape."""
    return partial(_with_heads, heads=heads, value=value)


def patch(value: Tensor, positions: Collection[int] | None = None) -> Edit:
    """Return an edit that replaces (B, T, ...) activations by `value`, at all positions or at these.

    `value` may have any shape that broadcasts to (B, T, ...): a mean over the batch, a vector. The edit raises
    ConfigError for another shape, and for a position that is not there.
    """

    def edit(x: Tensor) -> Tensor:
        whole = _broadcast(value, x)
        if positions is None:
            return whole.clone()
        wrong = [position for position in positions if not -x.shape[1] <= position < x.shape[1]]
        if wrong:
            raise ConfigError(f"there is no position {wrong[0]}: there are {x.shape[1]}, counted from 0")
        rows = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
        rows[list(positions)] = True
        return torch.where(rows.view(1, -1, *[1] * (x.dim() - 2)), whole, x)

    return edit


def _with_heads(x: Tensor, *, heads: Collection[int], value: Tensor | None) -> Tensor:
    if x.dim() != 4:
        shape = tuple(x.shape)
        raise ConfigError(
            f"an activation of shape {shape} has no heads: heads, query, key, value and pattern have them"
        )
    wrong = [head for head in heads if not -x.shape[1] <= head < x.shape[1]]
    if wrong:
        raise ConfigError(f"there is no head {wrong[0]}: there are {x.shape[1]}, counted from 0")
    changed = x.clone()
    changed[:, list(heads)] = 0.0 if value is None else _broadcast(value, x)[:, list(heads)]
    return changed


def _broadcast(value: Tensor, x: Tensor) -> Tensor:
    """Broadcast `value` to the shape of `x`."""
    try:
        return value.expand_as(x)
    except RuntimeError:
        shapes = tuple(value.shape), tuple(x.shape)
        raise ConfigError(f"a value of shape {shapes[0]} does not fit an activation of shape {shapes[1]}") from None

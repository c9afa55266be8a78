"""Changes of activations, to hand to `GPT.trace`: switch something off, or put in what another run had there."""

from collections.abc import Callable, Collection
from functools import partial

import torch
from torch import Tensor

from minigpt.errors import ConfigError

Edit = Callable[[Tensor], Tensor]
"""Takes an activation and gives what the model goes on with: of the same shape, and not the same memory changed."""


def zero(x: Tensor) -> Tensor:
    """An edit: nothing is left of it."""
    return torch.zeros_like(x)


def zero_heads(*heads: int) -> Edit:
    """An edit of `heads`, `query` or `pattern`: nothing of these, counted from 0. ConfigError for one too many, and for
    an activation that has no heads."""
    return partial(_with_heads, heads=heads, value=None)


def patch_heads(value: Tensor, *heads: int) -> Edit:
    """An edit of `heads`, `query` or `pattern`: in these heads what another run had there, `value` of its shape."""
    return partial(_with_heads, heads=heads, value=value)


def patch(value: Tensor, positions: Collection[int] | None = None) -> Edit:
    """An edit of (B, T, ...) activations: take `value` of another run instead, at all positions or at these alone.

    Its shape may be one that spreads over (B, T, ...): a mean over the batch, a vector. ConfigError for another one,
    and for a position too many.
    """

    def edit(x: Tensor) -> Tensor:
        whole = _spread(value, x)
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
    changed[:, list(heads)] = 0.0 if value is None else _spread(value, x)[:, list(heads)]
    return changed


def _spread(value: Tensor, x: Tensor) -> Tensor:
    """`value` in the shape of `x`."""
    try:
        return value.expand_as(x)
    except RuntimeError:
        shapes = tuple(value.shape), tuple(x.shape)
        raise ConfigError(f"a value of shape {shapes[0]} does not fit an activation of shape {shapes[1]}") from None

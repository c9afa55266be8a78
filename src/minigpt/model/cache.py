"""KVCache: keys and values of the tokens already read, so that one more token costs one token's work."""

from typing import NamedTuple

import torch
from torch import Tensor

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig


class LayerCache(NamedTuple):
    """One layer's share of a KVCache: keys and values, (B, Hkv, max_length, D) each."""

    keys: Tensor
    values: Tensor

    def extend(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Write k, v (B, Hkv, T, D) at positions start..start+T-1; return views of 0..start+T-1."""
        end = start + k.shape[2]
        self.keys[:, :, start:end] = k.detach()
        self.values[:, :, start:end] = v.detach()
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """Room for `max_length` positions of `batch_size` sequences in every layer: allocated once, filled in place.

    For sampling, not for training: what is stored carries no gradient.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        max_length: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        shape = (config.n_layer, 2, batch_size, config.kv_heads, max_length, config.head_width)
        self.batch_size = batch_size
        self.max_length = max_length
        self.length = 0
        self.layers = [LayerCache(*layer) for layer in torch.zeros(shape, device=device, dtype=dtype)]

    def check_room(self, tokens: Tensor) -> None:
        """Refuse tokens (B, T) that are not of this batch, or too many."""
        B, T = tokens.shape
        if self.batch_size != B:
            raise ConfigError(f"the cache was made for batch_size={self.batch_size}, not for {B} sequences")
        if self.length + T > self.max_length:
            raise ConfigError(
                f"the cache has room for max_length={self.max_length} positions, not for {self.length} + {T}"
            )

    def reset(self) -> None:
        """Forget everything; the memory is kept."""
        self.length = 0

"""KV cache: keys and values of the tokens already read, so that a further token is the only one to compute."""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.positions import Start, Starts, end_of, places


class LayerCache(NamedTuple):
    """Keys and values of one layer, (B, Hkv, max_length, D) each."""

    keys: Tensor
    values: Tensor

    def extend(self, k: Tensor, v: Tensor, start: Start) -> tuple[Tensor, Tensor]:
        """Write k, v (B, Hkv, T, D) at positions start..start+T-1; return views of all positions up to there."""
        B, _, T, _ = k.shape
        k, v = k.detach(), v.detach()
        if isinstance(start, int):
            self.keys.narrow(2, start, T).copy_(k)
            self.values.narrow(2, start, T).copy_(v)
        else:
            row = torch.arange(B, device=k.device)[:, None]  # (B, 1)
            place = places(start, T, k.device)  # (B, T)
            self.keys[row, :, place] = k.transpose(1, 2)  # (B, T, Hkv, D)
            self.values[row, :, place] = v.transpose(1, 2)
        end = end_of(start, T)
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)


class KVCache:
    """Keys and values of up to `max_length` positions of `batch_size` sequences: allocated once, filled in place.

    For sampling, not for training: gradients do not flow through it.
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
        self.max_length = max_length
        self.length = 0
        self._use(torch.zeros(shape, device=device, dtype=dtype))

    def _use(self, memory: Tensor) -> None:
        """Use `memory`, (L, 2, B, Hkv, max_length, D): the keys and the values of each layer."""
        self.memory = memory
        self.batch_size = memory.shape[2]
        self.layers = [LayerCache(*layer) for layer in memory]

    def start_of(self, tokens: Tensor) -> int:
        """Return the position of the first of tokens (B, T). ConfigError for another batch size, or too many tokens."""
        check_room(self, tokens, self.length)
        return self.length

    def advance(self, T: int) -> None:
        """Count T more tokens per sequence, once every layer has stored them."""
        self.length += T

    def reset(self) -> None:
        """Empty the cache; its memory is kept."""
        self.length = 0

    def with_memory(self, memory: Tensor) -> Self:
        """Return a cache of the same length over `memory` (L, 2, B, Hkv, max_length, D)."""
        other = copy.copy(self)
        other._use(memory)
        return other


class RaggedCache:
    """A cache of sequences of different lengths: `rows[b]` is a KVCache of one sequence, in shared memory.

    `rows[b]` fills or resets one row; the whole takes further tokens of all rows at once, each after those of its row.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        max_length: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._use(KVCache(config, batch_size, max_length, device, dtype))

    def _use(self, whole: KVCache) -> None:
        self.whole = whole
        self.rows = [whole.with_memory(whole.memory[:, :, b : b + 1]) for b in range(whole.batch_size)]

    @property
    def layers(self) -> list[LayerCache]:
        """Keys and values of each layer, of all rows."""
        return self.whole.layers

    def start_of(self, tokens: Tensor) -> Starts:
        """Return the position of the first of tokens (B, T). ConfigError for another batch size, or too many tokens."""
        lengths = [row.length for row in self.rows]
        check_room(self.whole, tokens, max(lengths))
        return Starts(torch.tensor(lengths, device=tokens.device)[:, None], max(lengths))

    def advance(self, T: int) -> None:
        """Count T more tokens per row, once every layer has stored them."""
        for row in self.rows:
            row.advance(T)

    def copy_row(self, source: int, target: int) -> None:
        """Copy row `source` into row `target`."""
        length = self.rows[source].length
        self.rows[target].memory[..., :length, :] = self.rows[source].memory[..., :length, :]
        self.rows[target].length = length

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        lengths = [self.rows[b].length for b in rows]
        self._use(self.whole.with_memory(self.whole.memory[:, :, list(rows)]))
        for row, length in zip(self.rows, lengths, strict=True):
            row.length = length


Cache = KVCache | RaggedCache


def check_room(cache: KVCache, tokens: Tensor, length: int) -> None:
    """Raise ConfigError for tokens (B, T) of another batch size, or too many after `length` others."""
    B, T = tokens.shape
    if cache.batch_size != B:
        raise ConfigError(f"the cache was made for batch_size={cache.batch_size}, not for {B} sequences")
    if length + T > cache.max_length:
        raise ConfigError(f"the cache has room for max_length={cache.max_length} positions, not for {length} + {T}")

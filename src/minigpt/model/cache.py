"""KVCache: keys and values of the tokens already read, so that one more token costs one token's work."""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.positions import Start, Starts, end_of, places


class LayerCache(NamedTuple):
    """One layer's share of a cache: keys and values, (B, Hkv, max_length, D) each."""

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
        self.max_length = max_length
        self.length = 0
        self._use(torch.zeros(shape, device=device, dtype=dtype))

    def _use(self, memory: Tensor) -> None:
        """Take `memory`, (L, 2, B, Hkv, max_length, D): the keys and the values of each layer."""
        self.memory = memory
        self.batch_size = memory.shape[2]
        self.layers = [LayerCache(*layer) for layer in memory]

    def start_of(self, tokens: Tensor) -> int:
        """Where tokens (B, T) begin. ConfigError if they are not of this batch, or too many."""
        check_room(self, tokens, self.length)
        return self.length

    def advance(self, T: int) -> None:
        """Count T more tokens of each sequence, which every layer has written."""
        self.length += T

    def reset(self) -> None:
        """Forget everything; the memory is kept."""
        self.length = 0

    def with_memory(self, memory: Tensor) -> Self:
        """A cache as long as this one, of the sequences in `memory` (L, 2, B, Hkv, max_length, D)."""
        other = copy.copy(self)
        other._use(memory)
        return other


class RaggedCache:
    """A cache of sequences that have lengths of their own: `rows[b]` is a KVCache of one sequence, in shared memory.

    A row is read, or reset and read anew, through `rows[b]` by itself. The whole takes further tokens of all rows at
    once, each behind what its row holds.
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
        """The shares of the layers, all rows in each."""
        return self.whole.layers

    def start_of(self, tokens: Tensor) -> Starts:
        """Where tokens (B, T) begin. ConfigError if they are not of this batch, or too many."""
        lengths = [row.length for row in self.rows]
        check_room(self.whole, tokens, max(lengths))
        return Starts(torch.tensor(lengths, device=tokens.device)[:, None], max(lengths))

    def advance(self, T: int) -> None:
        """Count T more tokens of each row, which every layer has written."""
        for row in self.rows:
            row.advance(T)

    def copy_row(self, source: int, target: int) -> None:
        """Let row `target` hold what row `source` holds."""
        length = self.rows[source].length
        self.rows[target].memory[..., :length, :] = self.rows[source].memory[..., :length, :]
        self.rows[target].length = length

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order."""
        lengths = [self.rows[b].length for b in rows]
        self._use(self.whole.with_memory(self.whole.memory[:, :, list(rows)]))
        for row, length in zip(self.rows, lengths, strict=True):
            row.length = length


Cache = KVCache | RaggedCache


def check_room(cache: KVCache, tokens: Tensor, length: int) -> None:
    """Refuse tokens (B, T) that are not of this batch, or too many behind `length` others."""
    B, T = tokens.shape
    if cache.batch_size != B:
        raise ConfigError(f"the cache was made for batch_size={cache.batch_size}, not for {B} sequences")
    if length + T > cache.max_length:
        raise ConfigError(f"the cache has room for max_length={cache.max_length} positions, not for {length} + {T}")

"""Which windows of which shards form the batch of a step: a pure function of (seed, step, rank, world).

    shards (token streams) --Windows--> numbered windows --TrainOrder--> their order --TrainBatches--> (x, y) of a step

Nothing here keeps a position. The caller says which batch it wants, so a resumed run, another number of loader workers
or another number of processes reads the same windows at the same step.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from minigpt.data.shards import pack, unpack
from minigpt.errors import ConfigError, DataError
from minigpt.system.randomness import mix

Batch = tuple[Tensor, Tensor]


class Windows:
    """The windows of `block_size` inputs and their targets in the shards of one split.

    A window is `block_size + 1` tokens long, and neighbours share one token: each token but a shard's first is a target
    once. No window crosses from one shard, and so from one split, to another.
    """

    def __init__(self, shards: Sequence[np.ndarray], block_size: int, *, name: str = "the text") -> None:
        self.block_size = block_size
        check_length(max((len(shard) for shard in shards), default=0), block_size, name)
        self.shards = [shard for shard in shards if len(shard) > block_size]
        self.counts = np.array([(len(shard) - 1) // block_size for shard in self.shards], dtype=np.int64)
        """Disjoint windows in each shard."""
        self.ends = np.cumsum(self.counts)

    def __getstate__(self) -> dict[str, Any]:
        """The state for a loader worker under spawn: the shards by their files, not their tokens."""
        return {**self.__dict__, "shards": pack(self.shards)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, shards=unpack(state["shards"]))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard (B,) of each window of `numbers` (B,), and the place (B,) of its first token in that shard."""
        shard_of = np.searchsorted(self.ends, numbers, side="right")
        return shard_of, (numbers - (self.ends - self.counts)[shard_of]) * self.block_size

    def gather(self, shard_of: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Tokens (B, block_size + 1), int64, of the windows that begin at `starts` (B,) in the shards `shard_of`
        (B,)."""
        tokens = np.empty((len(starts), self.block_size + 1), dtype=np.int64)
        span = np.arange(self.block_size + 1)
        for shard in np.unique(shard_of):
            rows = shard_of == shard
            tokens[rows] = self.shards[shard][starts[rows, None] + span]
        return tokens


def check_length(n_tokens: int, block_size: int, name: str) -> None:
    """Raise DataError for a text that is too short for one window of `block_size` inputs and their targets."""
    if n_tokens <= block_size:
        raise DataError(
            f"{name} has {n_tokens} tokens, and one window takes {block_size + 1} "
            f"(model.block_size={block_size} and the target of its last token)"
        )


class TrainOrder:
    """The endless order of the training windows: each epoch is a new permutation, without replacement.

    Each epoch also cuts the text at other places: a shard's windows are shifted by an offset drawn for it, so that
    what stands at a window's edge in one epoch has its context in another. The windows of one epoch stay disjoint; the
    offset leaves out fewer than two windows at the ends of each shard.
    """

    def __init__(self, windows: Windows, seed: int) -> None:
        self.windows = windows
        self.seed = seed
        lengths = np.array([len(shard) for shard in windows.shards], dtype=np.int64)
        # The last window of a shard is given up where that makes room to shift the others.
        self.counts = np.maximum(1, (lengths - windows.block_size) // windows.block_size)
        self.slack = lengths - 1 - self.counts * windows.block_size
        self.ends = np.cumsum(self.counts)
        self._kept: tuple[int, np.ndarray, np.ndarray] = (-1, np.empty(0), np.empty(0))

    def __len__(self) -> int:
        """Windows in an epoch."""
        return int(self.ends[-1])

    def read(self, first: int, count: int) -> np.ndarray:
        """Tokens (count, block_size + 1) of the windows at the places first .. first + count - 1 of the endless
        order."""
        blocks = range(first // _BLOCK, (first + count - 1) // _BLOCK + 1)
        found = [self._block(block) for block in blocks]
        here = slice(first - blocks[0] * _BLOCK, first - blocks[0] * _BLOCK + count)
        shard_of, starts = (np.concatenate(part)[here] for part in zip(*found, strict=True))
        return self.windows.gather(shard_of, starts)

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Shard and first token of `_BLOCK` places at once, the last block kept: one by one would cost 1 ms a batch."""
        if self._kept[0] != block:
            self._kept = (block, *self._locate(np.arange(block * _BLOCK, (block + 1) * _BLOCK)))
        return self._kept[1:]

    def _locate(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The shard and the first token of the windows at `places` of the endless order."""
        passes, within = np.divmod(places, len(self))
        shard_of, starts = np.empty_like(places), np.empty_like(places)
        for number in np.unique(passes):
            key = mix(int(mix(self.seed)) + int(number))
            here = passes == number
            drawn = permute(within[here], len(self), key)
            shard = np.searchsorted(self.ends, drawn, side="right")
            shift = mix(np.arange(len(self.slack), dtype=np.uint64) ^ mix(key)) % (self.slack + 1).astype(np.uint64)
            shard_of[here] = shard
            starts[here] = (drawn - (self.ends - self.counts)[shard]) * self.windows.block_size
            starts[here] += shift.astype(np.int64)[shard]
        return shard_of, starts


def permute(places: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """Where the `places` (int64, each in [0, size)) stand in a pseudo-random permutation of range(size).

    A Feistel network over the next even number of bits, walked until it lands inside the range (cycle walking: Black
    and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", sec. 3). So any place is found without the others: no
    table of a billion windows in memory, and nothing to save for a resume. On average fewer than four walks.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    rounds = mix(np.arange(8, dtype=np.uint64) ^ key)
    value = places.astype(np.uint64)
    pending = np.arange(len(value))
    while len(pending):
        left, right = value[pending] >> half, value[pending] & low
        for round_key in rounds:
            left, right = right, left ^ (mix(right ^ round_key) & low)
        value[pending] = (left << half) | right
        pending = pending[value[pending] >= size]
    return value.astype(np.int64)


class TrainBatches(Dataset[Batch]):
    """Item `step` is this rank's part of the training batch number `step`, for every step there is.

    x and y are (batch_size / world, block_size), int64; y is x one token on. `batch_size` counts the windows of all
    ranks together, and rank r takes the r-th run of them: a batch is the same set of windows whatever the number of
    processes.
    """

    def __init__(
        self, order: TrainOrder, batch_size: int, *, rank: int = 0, world: int = 1, origin: tuple[int, int] = (0, 0)
    ) -> None:
        """`origin` is (batch, window): batch number `batch` begins at place `window` of the order.

        It is (0, 0) as long as a run keeps its batch size.
        """
        check_divisible(batch_size, world)
        self.origin = origin
        self.order = order
        self.batch_size = batch_size
        self.local = batch_size // world
        self.rank = rank

    def __getitem__(self, step: int) -> Batch:
        batch, window = self.origin
        first = window + (step - batch) * self.batch_size
        tokens = self.order.read(first + self.rank * self.local, self.local)
        return _inputs_and_targets(tokens)


def check_divisible(batch_size: int, world: int) -> None:
    """Raise ConfigError if the processes cannot share a batch evenly."""
    if batch_size % world:
        raise ConfigError(f"data.batch_size={batch_size} must be divisible by the number of processes, {world}")


class ValidationBatches(Dataset[Batch]):
    """The first `n_batches` batches of a split's windows in the order of the text, this rank's part of each.

    The last batch may be smaller. With several processes a rank's part may even be empty: (0, block_size).
    """

    def __init__(self, windows: Windows, batch_size: int, n_batches: int, *, rank: int = 0, world: int = 1) -> None:
        self.windows = windows
        self.batch_size = batch_size
        self.n_batches = min(n_batches, -(-len(windows) // batch_size))
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return self.n_batches

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < self.n_batches:
            raise IndexError(step)  # what ends an iteration over a sequence
        first = step * self.batch_size
        numbers = np.arange(first, min(first + self.batch_size, len(self.windows)))
        return _inputs_and_targets(self.windows.gather(*self.windows.locate(numbers[self.rank :: self.world])))


class EndlessSteps(Sampler[int]):
    """start, start + 1, start + 2, …: the steps for which a loader asks `TrainBatches`."""

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        step = self.start
        while True:
            yield step
            step += 1


_BLOCK = 4096


def _inputs_and_targets(tokens: np.ndarray) -> Batch:
    """Split windows (B, block_size + 1) into inputs and targets, both (B, block_size) views of one tensor."""
    whole = torch.from_numpy(tokens)
    return whole[:, :-1], whole[:, 1:]

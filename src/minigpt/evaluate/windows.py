"""The loop over evaluation windows: every token of a text once, the model in eval mode, results on the CPU."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from minigpt.data.batches import Batch
from minigpt.errors import DataError
from minigpt.model.gpt import GPT
from minigpt.model.loss import IGNORE_INDEX

Measure = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""tokens and targets (B, T), on the model's device -> tensors of what is measured."""


def measure(model: GPT, batches: Iterable[Batch], what: Measure) -> Iterator[tuple[Tensor, ...]]:
    """Yield tokens, targets and the results of `what` for each of `batches`, all on the CPU.

    Batches are (tokens, targets), both (B, T) int64. `model` is in eval mode meanwhile, and then as before.
    """
    device = model.token_embedding.weight.device
    was_training = model.training
    model.eval()
    try:
        for tokens, targets in batches:
            with torch.inference_mode():
                results = tuple(each.cpu() for each in what(tokens.to(device), targets.to(device)))
            yield (tokens, targets, *results)
    finally:
        model.train(was_training)


def padded_batches(shards: Sequence[np.ndarray], block_size: int, batch_size: int, n_ids: int) -> Iterator[Batch]:
    """Cut 1-D arrays of token ids into windows of block_size that do not overlap, and batch them.

    Each token but the first of a shard is a target once. Behind a window that is shorter, at the end of a shard, the
    targets are ignored. Raises DataError for an id that is not below `n_ids`.
    """
    windows = _windows(shards, block_size, n_ids)
    while batch := list(islice(windows, batch_size)):
        length = max(len(window) for window in batch) - 1
        tokens = torch.zeros(len(batch), length, dtype=torch.int64)
        targets = torch.full((len(batch), length), IGNORE_INDEX)
        for row, window in enumerate(batch):
            ids = torch.from_numpy(window)
            tokens[row, : len(ids) - 1] = ids[:-1]
            targets[row, : len(ids) - 1] = ids[1:]
        yield tokens, targets


def _windows(shards: Sequence[np.ndarray], block_size: int, n_ids: int) -> Iterator[np.ndarray]:
    """Yield each shard in pieces of block_size + 1 ids, the last one shorter: the last id of one begins the next."""
    for number, shard in enumerate(shards):
        for start in range(0, len(shard) - 1, block_size):
            window = shard[start : start + block_size + 1].astype(np.int64)
            wrong = np.flatnonzero((window < 0) | (window >= n_ids))
            if wrong.size:
                raise DataError(
                    f"shard {number} holds token id {window[wrong[0]]} at position {start + wrong[0]}, "
                    f"beyond the vocabulary of {n_ids} tokens"
                )
            yield window

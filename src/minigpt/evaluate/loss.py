"""The exact loss of a model over a whole split: every token once, whatever the batch size."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from minigpt.data.round_trip import ByteCorrection
from minigpt.errors import DataError
from minigpt.model.gpt import GPT
from minigpt.model.loss import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a model costs on a split, summed in float64."""

    loss: float
    """Mean cross-entropy, nats per token."""
    perplexity: float
    """exp(loss): among how many equally likely tokens the model would be as unsure."""
    bits_per_byte: float
    """All nats / ln 2 / bytes of the text: independent of how it is cut into tokens. nan for a text of no bytes."""
    n_tokens: int
    """Tokens that were predicted."""
    n_bytes: int
    """UTF-8 bytes that they stand for; the end-of-text token stands for none, but what it costs counts."""
    loss_by_position: np.ndarray = field(repr=False)
    """(T,) float64: mean loss at each position of the window; T is block_size, or less for a shorter text."""


def evaluate(
    model: GPT,
    shards: Sequence[np.ndarray],
    token_bytes: np.ndarray,
    *,
    correction: ByteCorrection | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Loss, perplexity and bits per byte of `model`, on the device where it is, over all of `shards`.

    `shards`: 1-D arrays of token ids. Each is read in windows of block_size that do not overlap, so every token is
    predicted exactly once, except the first of a shard, which nothing precedes. A token sees what its window has
    before it: no more than in training, and less at the window's beginning (`loss_by_position` shows what that costs).
    `token_bytes`: (V,) bytes that each id stands for; `correction`: what their sum lacks to be the bytes of the text
    (`Prepared.correction`). `progress` is called with the number of tokens done since the
    last call. The model is in eval mode meanwhile, and then as before. Raises DataError for an id beyond `token_bytes`
    or the model's vocabulary, and when there is nothing to predict.
    """
    block_size = model.config.block_size
    device = model.token_embedding.weight.device
    n_ids = min(len(token_bytes), model.config.vocab_size)
    nats = np.zeros(block_size)
    counts = np.zeros(block_size, dtype=np.int64)
    n_bytes = n_prefix = 0
    was_training = model.training
    model.eval()
    try:
        windows = _windows(shards, block_size, n_ids)
        while batch := list(islice(windows, batch_size)):
            tokens, targets = _pad(batch)
            with torch.inference_mode():
                losses = model.loss(tokens.to(device), targets.to(device), reduction="none").cpu()  # (B, T)
            counted = targets != IGNORE_INDEX
            length = tokens.shape[1]
            nats[:length] += losses.sum(dim=0, dtype=torch.float64).numpy()
            counts[:length] += counted.sum(dim=0).numpy()
            n_bytes += int(token_bytes[targets[counted].numpy()].sum())
            if correction is not None and correction.end_of_text is not None:
                begins = counted & (tokens == correction.end_of_text)
                n_prefix += int(correction.prefix_bytes[targets[begins].numpy()].sum())
            if progress is not None:
                progress(int(counted.sum()))
    finally:
        model.train(was_training)
    scale = 1.0 if correction is None else correction.scale
    return _summary(nats, counts, (n_bytes - n_prefix) * scale)


def _windows(shards: Sequence[np.ndarray], block_size: int, n_ids: int) -> Iterator[np.ndarray]:
    """Each shard in pieces of block_size + 1 ids, the last one shorter: what ends one as a target begins the next."""
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


def _pad(windows: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, T) of a batch; behind a shorter window the targets are ignored (the inputs: causality)."""
    length = max(len(window) for window in windows) - 1
    tokens = torch.zeros(len(windows), length, dtype=torch.int64)
    targets = torch.full((len(windows), length), IGNORE_INDEX)
    for row, window in enumerate(windows):
        ids = torch.from_numpy(window)
        tokens[row, : len(ids) - 1] = ids[:-1]
        targets[row, : len(ids) - 1] = ids[1:]
    return tokens, targets


def _summary(nats: np.ndarray, counts: np.ndarray, n_bytes: float) -> Evaluation:
    n_tokens = int(counts.sum())
    if n_tokens == 0:
        raise DataError("there is nothing to predict: no shard has 2 tokens or more")
    loss = float(nats.sum()) / n_tokens
    with np.errstate(over="ignore"):
        perplexity = float(np.exp(loss))
    return Evaluation(
        loss=loss,
        perplexity=perplexity,
        bits_per_byte=float(nats.sum()) / math.log(2) / n_bytes if n_bytes else math.nan,
        n_tokens=n_tokens,
        n_bytes=round(n_bytes),
        loss_by_position=nats[counts > 0] / counts[counts > 0],  # the counts fall with the position
    )

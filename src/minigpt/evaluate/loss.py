"""The exact loss of a model over a whole text: every token once, whatever the batch size."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from minigpt.data.round_trip import ByteCorrection
from minigpt.errors import DataError
from minigpt.evaluate.windows import measure, padded_batches
from minigpt.model.gpt import GPT
from minigpt.model.loss import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Losses of a model over a text, summed in float64."""

    loss: float
    """Mean cross-entropy, nats per token."""
    perplexity: float
    """exp(loss)."""
    bits_per_byte: float
    """Sum of nats / ln 2 / bytes of the text, which does not depend on the tokenizer; nan for a text of no bytes."""
    n_tokens: int
    """Tokens that were predicted."""
    n_bytes: int
    """UTF-8 bytes of these tokens; the end-of-text token has none, but its loss counts."""
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
    """Compute loss, perplexity and bits per byte of `model` over all of `shards`, on the device of the model.

    `shards`: 1-D arrays of token ids, read in windows of block_size that do not overlap: every token is predicted
    exactly once, except the first of a shard. A token sees what precedes it in its window: no more than in training,
    and less at the beginning of the window (`loss_by_position` shows what that costs).
    `token_bytes`: (V,) bytes of each id; `correction`: the difference of their sum from the bytes of the text
    (`Prepared.correction`). `progress` is called with the number of tokens done since the last call. Raises DataError
    for an id beyond `token_bytes` or the model's vocabulary, and when there is nothing to predict.
    """
    block_size = model.config.block_size
    batches = padded_batches(shards, block_size, batch_size, min(len(token_bytes), model.config.vocab_size))
    nats = np.zeros(block_size)
    counts = np.zeros(block_size, dtype=np.int64)
    n_bytes = n_prefix = 0
    for tokens, targets, losses in measure(model, batches, lambda x, y: (model.loss(x, y, reduction="none"),)):
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
    scale = 1.0 if correction is None else correction.scale
    return _summary(nats, counts, (n_bytes - n_prefix) * scale)


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

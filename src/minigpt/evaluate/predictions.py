"""Predictions of a model token by token: its loss by position and by frequency of the token, and its calibration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from minigpt.data.batches import Batch
from minigpt.evaluate.windows import measure
from minigpt.model.config import loss_rows
from minigpt.model.gpt import GPT
from minigpt.model.loss import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """N windows of T predictions; each array is (N, T)."""

    targets: np.ndarray
    """int64: the target tokens; IGNORE_INDEX where none counts, and the other numbers are then 0."""
    losses: np.ndarray
    """float64: their losses, nats."""
    confidence: np.ndarray
    """float64: the probability of the likeliest token."""
    hits: np.ndarray
    """bool: whether the likeliest token is the target."""

    @property
    def counted(self) -> np.ndarray:
        """(N, T) bool: where a token counts."""
        return self.targets != IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Averages over the tokens of each of K bins; each array is (K,)."""

    counts: np.ndarray
    """Tokens in the bin."""
    means: np.ndarray
    """The averages; nan for an empty bin."""
    against: np.ndarray
    """The reference: the mean confidence, or a bin's lower edge."""


def predict(model: GPT, batches: Iterable[Batch]) -> Predictions:
    """Compute what `model`, in eval mode, predicts for `batches` of (tokens, targets), both (B, T) int64."""
    found = measure(model, batches, lambda tokens, targets: _read(model, tokens, targets))
    _, targets, losses, confidence, hits = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    return Predictions(targets=targets, losses=losses.astype(float), confidence=confidence.astype(float), hits=hits)


def _read(model: GPT, tokens: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Return losses, confidence and hits, (B, T) each; the logits of a large vocabulary are never all in memory."""
    rows = loss_rows(model.config.vocab_size)
    hidden, flat = model.hidden(tokens).flatten(0, 1), targets.flatten()  # (B T, C), (B T,)
    chunks = zip(hidden.split(rows), flat.split(rows), strict=True)
    numbers = zip(*(_read_logits(model.logits(h), y) for h, y in chunks), strict=True)
    return tuple(torch.cat(each).view_as(targets) for each in numbers)


def _read_logits(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Return losses, confidence and hits, (N,) each, of logits (N, V) and targets (N,)."""
    logits = logits.float()
    total, best = logits.logsumexp(-1), logits.max(-1)  # (N,)
    ignored = targets == IGNORE_INDEX
    given = logits.gather(-1, targets.masked_fill(ignored, 0)[:, None])[:, 0]
    losses, confidence = (each.masked_fill(ignored, 0.0) for each in (total - given, (best.values - total).exp()))
    return losses, confidence, best.indices == targets


def loss_by_position(predictions: Predictions) -> np.ndarray:
    """Return the mean loss at each position of the window, (T,), nats; nan where no target counts.

    The first position sees one token, the last a whole window.
    """
    counts = predictions.counted.sum(axis=0)
    sums = predictions.losses.sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def calibration(predictions: Predictions, n_bins: int = 10) -> tuple[Bins, float]:
    """Return the accuracy by confidence, and the expected calibration error (Guo et al. 2017, equation 3).

    Bins of equal width over the confidence; `means` is the share of hits, `against` the mean confidence. The error is
    the mean absolute difference of the two over all tokens: 0 for a calibrated model.
    """
    confidence, hits = predictions.confidence[predictions.counted], predictions.hits[predictions.counted]
    where = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(where, minlength=n_bins)
    means, against = (_means(where, each, counts) for each in (hits, confidence))
    filled = counts > 0
    error = float((counts * np.abs(means - against))[filled].sum() / max(1, counts.sum()))
    return Bins(counts=counts, means=means, against=against), error


FREQUENCIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)
"""Lower edges of the bins of `loss_by_frequency`, as shares of the training text; the last holds all rarer tokens."""


def loss_by_frequency(predictions: Predictions, token_counts: np.ndarray) -> Bins:
    """Return the mean loss of tokens by their frequency in the training text; `against` is FREQUENCIES.

    `token_counts` (V,): occurrences of each token in the training text.
    """
    share = (token_counts / max(1, token_counts.sum()))[predictions.targets[predictions.counted]]
    where = np.searchsorted(-np.array(FREQUENCIES), -share, side="left")
    counts, losses = np.bincount(where, minlength=len(FREQUENCIES)), predictions.losses[predictions.counted]
    return Bins(counts=counts, means=_means(where, losses, counts), against=np.array(FREQUENCIES))


def count_tokens(shards: Sequence[np.ndarray], vocab_size: int, at_most: int = 2**24) -> np.ndarray:
    """Count each token in `shards`, (V,) int64; of more than `at_most` tokens in evenly spaced pieces."""
    n_tokens = sum(len(shard) for shard in shards)
    every = -(-n_tokens // at_most)  # of so many pieces one is read
    counts = np.zeros(vocab_size, dtype=np.int64)
    for shard in shards:
        for start in range(0, len(shard), every * _PIECE):
            counts += np.bincount(shard[start : start + _PIECE].astype(np.int64), minlength=vocab_size)
    return counts


_PIECE = 2**16


def _means(where: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    sums = np.bincount(where, weights=values.astype(float), minlength=len(counts))
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)

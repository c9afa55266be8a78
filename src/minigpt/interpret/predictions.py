"""What a model predicts over many windows, token by token, and what can be read off it: where it is good and how sure
it is with right."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from minigpt.data.batches import Batch
from minigpt.model.config import loss_rows
from minigpt.model.gpt import GPT
from minigpt.model.loss import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """N windows of T predictions; each array is (N, T)."""

    targets: np.ndarray
    """int64: the tokens that came; IGNORE_INDEX where none counts, and the other numbers are then 0."""
    losses: np.ndarray
    """float64: what each cost, nats."""
    confidence: np.ndarray
    """float64: the probability of the token that the model found likeliest."""
    hits: np.ndarray
    """bool: whether that one came."""

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
    """What is averaged; nan for an empty bin."""
    against: np.ndarray
    """What it is compared with: the mean confidence, or a bin's lower border."""


@torch.no_grad()
def predict(model: GPT, batches: Iterable[Batch]) -> Predictions:
    """Read `batches` of (tokens, targets), both (B, T) int64, on the device of the model, which is used as it is."""
    device = model.token_embedding.weight.device
    rows = loss_rows(model.config.vocab_size)  # a large vocabulary's logits are never there all at once
    parts: list[tuple[torch.Tensor, ...]] = []
    for tokens, targets in batches:
        hidden, came = model.hidden(tokens.to(device)).flatten(0, 1), targets.to(device).flatten()  # (B T, C), (B T,)
        pieces = zip(hidden.split(rows), came.split(rows), strict=True)
        numbers = [torch.cat(each) for each in zip(*(_read(model.logits(h), y) for h, y in pieces), strict=True)]
        parts.append((targets, *(each.view_as(targets) for each in numbers)))
    all_targets, losses, confidence, hits = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
    return Predictions(targets=all_targets, losses=losses.astype(float), confidence=confidence.astype(float), hits=hits)


def _read(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Losses, confidence and hits, (N,) each, of logits (N, V) and targets (N,)."""
    logits = logits.float()
    total, best = logits.logsumexp(-1), logits.max(-1)  # (N,)
    ignored = targets == IGNORE_INDEX
    given = logits.gather(-1, targets.masked_fill(ignored, 0)[:, None])[:, 0]
    losses, confidence = (each.masked_fill(ignored, 0.0).cpu() for each in (total - given, (best.values - total).exp()))
    return losses, confidence, (best.indices == targets).cpu()


def loss_by_position(predictions: Predictions) -> np.ndarray:
    """(T,): mean loss at each position of the window, nats; nan where no target counts.

    The first has one token to go by, the last a window.
    """
    counts = predictions.counted.sum(axis=0)
    sums = predictions.losses.sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def calibration(predictions: Predictions, n_bins: int = 10) -> tuple[Bins, float]:
    """How often the likeliest token came, by how likely it was held to be, and the expected calibration error.

    Bins of equal width over the confidence; `means` is the share of hits, `against` the mean confidence. The error is
    the mean distance of the two over all tokens (Guo et al. 2017, equation 3): 0 for a model as sure as it is right.
    """
    confidence, hits = predictions.confidence[predictions.counted], predictions.hits[predictions.counted]
    where = np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(where, minlength=n_bins)
    means, against = (_means(where, each, counts) for each in (hits, confidence))
    filled = counts > 0
    error = float((counts * np.abs(means - against))[filled].sum() / max(1, counts.sum()))
    return Bins(counts=counts, means=means, against=against), error


FREQUENCIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0.0)
"""Lower borders of the bins of `loss_by_frequency`, as shares of the training text; the last holds what is rarer."""


def loss_by_frequency(predictions: Predictions, token_counts: np.ndarray) -> Bins:
    """Mean loss of the tokens that make up so large a share of the training text: `against` are FREQUENCIES.

    `token_counts` (V,): how often each token stands there.
    """
    share = (token_counts / max(1, token_counts.sum()))[predictions.targets[predictions.counted]]
    where = np.searchsorted(-np.array(FREQUENCIES), -share, side="left")
    counts, losses = np.bincount(where, minlength=len(FREQUENCIES)), predictions.losses[predictions.counted]
    return Bins(counts=counts, means=_means(where, losses, counts), against=np.array(FREQUENCIES))


def count_tokens(shards: Sequence[np.ndarray], vocab_size: int, at_most: int = 2**24) -> np.ndarray:
    """(V,) int64: how often each token stands in `shards`; of more than `at_most` tokens in pieces spread evenly."""
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

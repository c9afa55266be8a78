"""Loss, perplexity and bits per byte over batches, against their definitions."""

import math

import numpy as np
import pytest
import torch

from minigpt.data.round_trip import ByteCorrection
from minigpt.model.loss import IGNORE_INDEX
from minigpt.training.metrics import LanguageModelMetrics


def test_measures_of_several_batches_of_different_sizes() -> None:
    metrics = LanguageModelMetrics(torch.tensor([1, 3, 0]))
    losses = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0]])]
    targets = [torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0]])]
    for loss, target in zip(losses, targets, strict=True):
        metrics.update(loss, target)
    results = metrics.compute()
    assert float(results["loss"]) == pytest.approx(15 / 5)
    assert float(results["perplexity"]) == pytest.approx(math.exp(3))
    assert float(results["bits_per_byte"]) == pytest.approx(15 / math.log(2) / (1 + 3 + 3 + 0 + 1))


def test_the_space_in_front_of_a_document_is_no_byte_of_it_and_a_lossy_text_is_scaled() -> None:
    """Token 0 ends a document, 1 stands for " a", 2 for "b"; only after 0 is the space of 1 not the text's own."""
    correction = ByteCorrection(end_of_text=0, prefix_bytes=np.array([0, 1, 0]), scale=1.5)
    metrics = LanguageModelMetrics(torch.tensor([0, 2, 1]), correction)
    metrics.update(torch.ones(2, 2), torch.tensor([[1, 1], [0, 1]]), torch.tensor([[0, 1], [2, 0]]))
    assert float(metrics.bytes) == 1.5 * (1 + 2 + 0 + 1)


def test_uniform_bytes_cost_eight_bits() -> None:
    metrics = LanguageModelMetrics(torch.ones(256, dtype=torch.int64))
    metrics.update(torch.full((2, 5), math.log(256)), torch.zeros(2, 5, dtype=torch.int64))
    assert float(metrics.compute()["bits_per_byte"]) == pytest.approx(8.0)


def test_sums_are_wide() -> None:
    """A million small losses on a large sum: float32 would lose them."""
    metrics = LanguageModelMetrics(torch.ones(2, dtype=torch.int64))
    metrics.update(torch.full((1, 1), 1e8), torch.zeros(1, 1, dtype=torch.int64))
    for _ in range(10):
        metrics.update(torch.full((1, 1), 1.0), torch.zeros(1, 1, dtype=torch.int64))
    assert float(metrics.nats) == 1e8 + 10


def test_reset_and_state_dict() -> None:
    metrics = LanguageModelMetrics(torch.from_numpy(np.ones(4, dtype=np.int64)))
    metrics.update(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.int64))
    metrics.reset()
    assert float(metrics.tokens) == 0
    assert not metrics.state_dict()  # nothing of it goes into a checkpoint


def test_targets_that_are_ignored_are_no_tokens_and_no_bytes() -> None:
    metrics = LanguageModelMetrics(torch.tensor([1, 3, 7]))
    metrics.update(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[1, IGNORE_INDEX], [0, IGNORE_INDEX]]))
    metrics.update(torch.zeros(1, 2), torch.full((1, 2), IGNORE_INDEX))
    assert (int(metrics.tokens), int(metrics.bytes)) == (2, 4)
    assert float(metrics.compute()["bits_per_byte"]) == pytest.approx(3 / math.log(2) / 4)


def test_where_no_target_counts_nothing_was_measured() -> None:
    metrics = LanguageModelMetrics(torch.ones(3, dtype=torch.int64))
    metrics.update(torch.zeros(1, 2), torch.full((1, 2), IGNORE_INDEX))
    assert all(math.isnan(float(value)) for value in metrics.compute().values())

"""What is read off many predictions, against plain loops and cases whose answer is known."""

import math

import numpy as np
import pytest
import torch
from helpers import random_gpt, tiny_config

from minigpt.evaluate.predictions import (
    FREQUENCIES,
    Predictions,
    calibration,
    count_tokens,
    loss_by_frequency,
    loss_by_position,
    predict,
)
from minigpt.model import config as config_module
from minigpt.model.loss import IGNORE_INDEX


def made(confidence, hits, losses=None, targets=None) -> Predictions:
    confidence = np.atleast_2d(np.array(confidence, dtype=float))
    losses = np.zeros_like(confidence) if losses is None else np.atleast_2d(np.array(losses, dtype=float))
    targets = np.zeros(confidence.shape, dtype=np.int64) if targets is None else np.atleast_2d(np.array(targets))
    return Predictions(targets=targets, losses=losses, confidence=confidence, hits=np.atleast_2d(np.array(hits, bool)))


@pytest.mark.parametrize("at_once", [config_module.LOGITS_AT_ONCE, 5 * 30])
def test_predictions_are_the_models(at_once, monkeypatch):
    """Those of a large vocabulary too, whose logits are made for a few tokens at a time."""
    monkeypatch.setattr(config_module, "LOGITS_AT_ONCE", at_once)
    model = random_gpt(tiny_config(30)).eval()
    tokens = torch.randint(30, (5, 9))
    found = predict(model, [(tokens[:3, :-1], tokens[:3, 1:]), (tokens[3:, :-1], tokens[3:, 1:])])
    with torch.no_grad():
        losses = model.loss(tokens[:, :-1], tokens[:, 1:], reduction="none")
        chances = model(tokens[:, :-1]).softmax(-1)
    np.testing.assert_allclose(found.losses, losses.numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.confidence, chances.amax(-1).numpy(), rtol=1e-5)
    assert (found.hits == (chances.argmax(-1) == tokens[:, 1:]).numpy()).all()
    assert (found.targets == tokens[:, 1:].numpy()).all()
    np.testing.assert_allclose(loss_by_position(found), losses.mean(0).numpy(), rtol=1e-5)


def test_one_who_is_as_sure_as_right_has_no_error():
    bins, error = calibration(made([0.75] * 4 + [0.25] * 4, [1, 1, 1, 0, 1, 0, 0, 0]))
    assert error == pytest.approx(0)
    assert bins.counts.tolist() == [0, 0, 4, 0, 0, 0, 0, 4, 0, 0]
    assert bins.means[7] == 0.75
    assert math.isnan(bins.means[0])


def test_one_who_is_too_sure():
    bins, error = calibration(made([1.0, 1.0, 1.0, 0.55], [1, 0, 0, 0]))
    assert bins.counts[9] == 3, "certainty falls into the last bin"
    assert error == pytest.approx((3 * (1 - 1 / 3) + 0.55) / 4)


def test_loss_by_frequency_puts_each_token_into_its_bin():
    counts = np.array([900_000, 99_000, 995, 5, 0])  # 0.9, 0.099, ..., 5e-6, never
    found = loss_by_frequency(made([0] * 6, [0] * 6, [1, 3, 5, 7, 9, 11], [0, 0, 1, 2, 3, 4]), counts)
    assert found.against.tolist() == list(FREQUENCIES)
    assert found.counts.tolist() == [2, 1, 0, 1, 0, 2]
    assert found.means[[0, 1, 3, 5]].tolist() == [2, 5, 7, 10]


def test_tokens_are_counted_whole_or_in_pieces():
    shards = [np.arange(300_000, dtype=np.uint16) % 7, np.full(1000, 9, dtype=np.uint16)]
    whole = count_tokens(shards, 12)
    assert whole.tolist() == np.bincount(np.concatenate(shards), minlength=12).tolist()
    part = count_tokens(shards, 12, at_most=160_000)
    assert 0 < part.sum() < 250_000
    assert part[9] == 1000


def test_targets_that_are_ignored_count_nowhere():
    model = random_gpt(tiny_config(30)).eval()
    tokens = torch.randint(30, (4, 9))
    x, y = tokens[:, :-1], tokens[:, 1:].clone()
    whole = predict(model, [(x[:2], y[:2])])
    y[2:] = IGNORE_INDEX
    found = predict(model, [(x, y)])
    assert not found.losses[2:].any()
    np.testing.assert_allclose(loss_by_position(found), loss_by_position(whole), rtol=1e-6)
    assert calibration(found)[1] == pytest.approx(calibration(whole)[1])
    frequency, expected = (loss_by_frequency(each, np.ones(30)) for each in (found, whole))
    assert frequency.counts.tolist() == expected.counts.tolist()
    np.testing.assert_allclose(frequency.means, expected.means, rtol=1e-6)
    nothing = predict(model, [(x[2:], y[2:])])
    assert np.isnan(loss_by_position(nothing)).all()
    assert calibration(nothing)[1] == 0

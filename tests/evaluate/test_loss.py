"""Exact evaluation against the plain loop: every token once, whatever the batch."""

import math

import numpy as np
import pytest
import torch
from helpers import random_gpt, tiny_config

from minigpt.data.round_trip import ByteCorrection
from minigpt.errors import DataError
from minigpt.evaluate.loss import evaluate
from minigpt.model.gpt import GPT

BYTES = np.arange(19) % 5  # bytes that each of 19 ids stands for; some stand for none


def shards(*lengths: int) -> list[np.ndarray]:
    dice = np.random.default_rng(0)
    return [dice.integers(0, 19, length).astype(np.uint8) for length in lengths]


def double_gpt(**settings) -> GPT:
    return random_gpt(tiny_config(19, block_size=8, **settings)).double()


def naive(model: GPT, splits: list[np.ndarray]) -> list[tuple[int, int, float]]:
    """(position in the window, id, nats) of every predicted token, one forward pass each."""
    found = []
    for shard in splits:
        ids = shard.tolist()
        for target in range(1, len(ids)):
            begin = (target - 1) // 8 * 8
            with torch.no_grad():
                logits = model(torch.tensor([ids[begin:target]]))[0, -1]
            found.append((target - 1 - begin, ids[target], -logits.log_softmax(-1)[ids[target]].item()))
    return found


@pytest.mark.parametrize("lengths", [(2,), (8,), (9,), (10,), (17, 3), (40, 1, 0, 25)])
def test_it_equals_the_plain_loop(lengths):
    model, splits = double_gpt(), shards(*lengths)
    expected = naive(model, splits)
    nats = [nat for _, _, nat in expected]
    result = evaluate(model, splits, BYTES, batch_size=3)
    assert result.n_tokens == len(expected) == sum(max(0, length - 1) for length in lengths)
    assert result.n_bytes == sum(BYTES[token] for _, token, _ in expected)
    assert result.loss == pytest.approx(sum(nats) / len(nats), rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-5)
    if result.n_bytes:
        assert result.bits_per_byte == pytest.approx(sum(nats) / math.log(2) / result.n_bytes, rel=1e-6)
    by_position = [[nat for at, _, nat in expected if at == t] for t in range(min(8, max(lengths) - 1))]
    assert result.loss_by_position == pytest.approx([sum(each) / len(each) for each in by_position], rel=1e-6)


@pytest.mark.parametrize("position", ["learned", "rotary", "alibi"])
def test_the_batch_size_changes_nothing(position):
    model = random_gpt(tiny_config(19, block_size=8, position=position))
    splits = shards(203, 9, 77)
    results = [evaluate(model, splits, BYTES, batch_size=size) for size in (1, 2, 7, 64)]
    for result in results[1:]:
        assert result.loss == pytest.approx(results[0].loss, abs=1e-6)
        assert result.loss_by_position == pytest.approx(results[0].loss_by_position, abs=1e-6)
        assert (result.n_tokens, result.n_bytes) == (results[0].n_tokens, results[0].n_bytes)


def test_bytes_are_corrected_at_the_beginning_of_documents_and_for_a_lossy_text():
    model, splits = double_gpt(), shards(400, 250)
    plain = evaluate(model, splits, BYTES)
    begins = [shard[1:][shard[:-1] == 3] for shard in splits]
    taken_back = sum(int(token in {4, 9}) for ids in begins for token in ids)
    prefix = np.isin(np.arange(19), [4, 9]).astype(np.int64)
    exact = evaluate(model, splits, BYTES, correction=ByteCorrection(end_of_text=3, prefix_bytes=prefix, scale=1.0))
    assert exact.n_bytes == plain.n_bytes - taken_back < plain.n_bytes
    scaled = evaluate(model, splits, BYTES, correction=ByteCorrection(end_of_text=None, prefix_bytes=prefix, scale=2.0))
    assert scaled.bits_per_byte == pytest.approx(plain.bits_per_byte / 2)


def test_a_uniform_model_costs_log2_of_the_vocabulary_per_byte():
    model = random_gpt(tiny_config(256, block_size=8, tie_embeddings=False))
    with torch.no_grad():
        model.head.weight.zero_()
    text = np.frombuffer(b"every byte is a token" * 5, dtype=np.uint8)
    result = evaluate(model, [text], np.ones(256, dtype=np.int64))
    assert result.bits_per_byte == pytest.approx(8.0, abs=1e-6)
    assert result.loss == pytest.approx(math.log(256), abs=1e-6)
    assert result.perplexity == pytest.approx(256, rel=1e-5)
    assert result.n_bytes == result.n_tokens == len(text) - 1


def test_tokens_without_bytes_cost_nats_but_count_no_bytes():
    model, splits = double_gpt(), shards(30)
    all_ones = evaluate(model, splits, np.ones(19, dtype=np.int64))
    none_for_3 = evaluate(model, splits, np.array([i != 3 for i in range(19)], dtype=np.int64))
    count = int((splits[0][1:] == 3).sum())
    assert count > 0
    assert none_for_3.loss == all_ones.loss
    assert none_for_3.n_bytes == all_ones.n_bytes - count
    assert none_for_3.bits_per_byte > all_ones.bits_per_byte
    assert math.isnan(evaluate(model, splits, np.zeros(19, dtype=np.int64)).bits_per_byte)


def test_each_token_is_read_once_whatever_the_batch_size():
    model, read = double_gpt(), []
    model.token_embedding.register_forward_pre_hook(lambda module, args: read.append(tuple(args[0].shape)))
    evaluate(model, shards(8 * 5 + 1), BYTES, batch_size=2)
    assert read == [(2, 8), (2, 8), (1, 8)]


def test_progress_counts_every_token():
    done: list[int] = []
    result = evaluate(double_gpt(), shards(50, 21), BYTES, batch_size=2, progress=done.append)
    assert sum(done) == result.n_tokens
    assert len(done) == 5


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_meanwhile_and_the_mode_is_given_back(training):
    model = random_gpt(tiny_config(19, block_size=8, dropout=0.5)).train(training)
    splits = shards(40)
    assert evaluate(model, splits, BYTES).loss == evaluate(model, splits, BYTES).loss
    assert model.training is training
    with pytest.raises(DataError):
        evaluate(model, [np.array([1, 99])], BYTES)
    assert model.training is training


def test_an_overflowing_perplexity_is_infinite():
    model = double_gpt(tie_embeddings=False)
    with torch.no_grad():
        model.head.weight.mul_(1e4)
    result = evaluate(model, shards(50), BYTES)
    assert result.loss > 1000
    assert result.perplexity == math.inf


@pytest.mark.parametrize("token", [19, 200, -1])
def test_an_id_beyond_the_vocabulary_is_named_with_its_place(token):
    splits = [*shards(20), np.array([*range(12), token, 3])]
    with pytest.raises(DataError) as caught:
        evaluate(double_gpt(), splits, BYTES)
    message = str(caught.value)
    assert f"shard 1 holds token id {token} at position 12" in message
    assert "19" in message
    assert "\n" not in message


def test_the_smaller_of_model_and_tokenizer_bounds_the_ids():
    padded = random_gpt(tiny_config(24, block_size=8))
    with pytest.raises(DataError, match="token id 20"):
        evaluate(padded, [np.array([1, 2, 20])], BYTES)
    with pytest.raises(DataError, match="token id 20"):
        evaluate(double_gpt(), [np.array([1, 2, 20])], np.ones(30, dtype=np.int64))


@pytest.mark.parametrize("splits", [[], [np.array([1])], [np.array([]), np.array([3])]])
def test_nothing_to_predict_is_told(splits):
    with pytest.raises(DataError, match="nothing to predict"):
        evaluate(double_gpt(), splits, BYTES)

"""KVCache: sizes, reuse, and one line where it ends."""

from typing import get_args

import pytest
import torch

from minigpt.errors import ConfigError
from minigpt.model.cache import KVCache, RaggedCache
from minigpt.model.config import PositionName

from .variants import random_tokens, small_config, small_model


def test_it_is_allocated_once_and_written_in_place():
    model = small_model(n_kv_head=2)
    cache = KVCache(model.config, batch_size=3, max_length=10, dtype=torch.float64)
    assert [layer.keys.shape for layer in cache.layers] == [(3, 2, 10, 4)] * 2
    before = [layer.keys.data_ptr() for layer in cache.layers]
    model(random_tokens(model.config, T=4), cache)
    assert cache.length == 4
    assert [layer.keys.data_ptr() for layer in cache.layers] == before
    assert all((layer.keys[:, :, :4] != 0).any() and (layer.keys[:, :, 4:] == 0).all() for layer in cache.layers)
    assert not cache.layers[0].values.requires_grad


def test_reset_forgets():
    model = small_model()
    cache = KVCache(model.config, batch_size=3, max_length=12, dtype=torch.float64)
    model(random_tokens(model.config, seed=5), cache)
    cache.reset()
    assert cache.length == 0
    tokens = random_tokens(model.config, T=3)
    torch.testing.assert_close(model(tokens, cache), model(tokens))


def test_without_layers_it_still_counts():
    model = small_model(n_layer=0)
    cache = KVCache(model.config, batch_size=3, max_length=12, dtype=torch.float64)
    tokens = random_tokens(model.config)
    logits = torch.cat([model(piece, cache) for piece in tokens.split([4, 8], dim=1)], dim=1)
    torch.testing.assert_close(logits, model(tokens))  # learned positions: the second piece begins at 4


def test_positions_beyond_block_size_in_a_cache():
    model = small_model(position="rotary")
    tokens = random_tokens(model.config, T=30)
    cache = KVCache(model.config, batch_size=3, max_length=30, dtype=torch.float64)
    logits = torch.cat([model(piece, cache) for piece in tokens.split(7, dim=1)], dim=1)
    torch.testing.assert_close(logits, model(tokens))


def test_its_end_and_another_batch_are_one_line():
    model = small_model(position="alibi")
    cache = KVCache(small_config(), batch_size=3, max_length=5, dtype=torch.float64)
    model(random_tokens(model.config, T=4), cache)
    with pytest.raises(ConfigError, match=r"^the cache has room for max_length=5 positions, not for 4 \+ 2$"):
        model(random_tokens(model.config, T=2), cache)
    with pytest.raises(ConfigError, match=r"^the cache was made for batch_size=3, not for 1 sequences$"):
        model(random_tokens(model.config, B=1, T=1), cache)
    assert cache.length == 4


def test_learned_positions_end_before_the_cache_does():
    model = small_model(position="learned")
    cache = KVCache(model.config, batch_size=3, max_length=50, dtype=torch.float64)
    model(random_tokens(model.config), cache)
    with pytest.raises(ConfigError, match=r"^13 tokens are more than block_size=12"):
        model(random_tokens(model.config, T=1), cache)


# ----- sequences that have lengths of their own


def ragged(model, lengths: list[int], max_length: int = 12) -> tuple[torch.Tensor, RaggedCache]:
    """Random tokens, a row for each length, and a cache that has read so many of each."""
    tokens = random_tokens(model.config, B=len(lengths))
    cache = RaggedCache(model.config, len(lengths), max_length, dtype=torch.float64)
    for row, length in enumerate(lengths):
        if length > 0:
            model(tokens[row : row + 1, :length], cache.rows[row])
    return tokens, cache


def pieces(tokens: torch.Tensor, starts: list[int], T: int) -> torch.Tensor:
    """Of each row the T tokens from its start on."""
    return torch.stack([row[start : start + T] for row, start in zip(tokens, starts, strict=True)])


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("attention", ["fused", "explicit"])
@pytest.mark.parametrize("n_kv_head", [None, 2, 1])
@pytest.mark.parametrize("position", get_args(PositionName))
@torch.no_grad()
def test_rows_of_different_lengths_say_what_each_says_alone(position, n_kv_head, attention, T):
    model = small_model(position=position, n_kv_head=n_kv_head, attention=attention)
    lengths = [5, 0, 8, 5]
    tokens, cache = ragged(model, lengths)
    expected = model(tokens)
    for _ in range(4 // T):
        found = model(pieces(tokens, lengths, T), cache)
        torch.testing.assert_close(found, pieces(expected, lengths, T), rtol=0, atol=1e-12)
        lengths = [length + T for length in lengths]
        assert [row.length for row in cache.rows] == lengths


@torch.no_grad()
def test_a_row_may_be_read_anew_and_copied_while_the_others_stay():
    model = small_model(position="rotary")
    tokens, cache = ragged(model, [6, 2, 4])
    cache.rows[2].reset()
    model(tokens[2:, 3:7], cache.rows[2])  # as a window that has slid: positions from 0 on
    cache.copy_row(0, 1)
    found = model(torch.stack((tokens[0, 6:7], tokens[0, 6:7], tokens[2, 7:8])), cache)[:, -1]
    expected = torch.stack((model(tokens[:1, :7])[0, -1], model(tokens[:1, :7])[0, -1], model(tokens[2:, 3:8])[0, -1]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_rows_that_leave_do_not_move_the_others():
    model = small_model(position="alibi")
    tokens, cache = ragged(model, [6, 2, 4])
    cache.keep([2, 0])
    assert [row.length for row in cache.rows] == [4, 6]
    kept = tokens[[2, 0]]
    torch.testing.assert_close(
        model(pieces(kept, [4, 6], 1), cache), pieces(model(kept), [4, 6], 1), rtol=0, atol=1e-12
    )


def test_the_longest_row_says_where_a_ragged_cache_ends():
    model = small_model(position="learned")
    _, cache = ragged(model, [5, 2], max_length=5)
    with pytest.raises(ConfigError, match=r"^the cache has room for max_length=5 positions, not for 5 \+ 1$"):
        model(random_tokens(model.config, B=2, T=1), cache)
    with pytest.raises(ConfigError, match=r"^the cache was made for batch_size=2, not for 1 sequences$"):
        model(random_tokens(model.config, B=1, T=1), cache)
    _, cache = ragged(model, [12, 2], max_length=50)
    with pytest.raises(ConfigError, match=r"^13 tokens are more than block_size=12"):
        model(random_tokens(model.config, B=2, T=1), cache)

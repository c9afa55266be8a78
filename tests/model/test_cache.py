"""KVCache: sizes, reuse, and one line where it ends."""

import pytest
import torch

from minigpt.errors import ConfigError
from minigpt.model.cache import KVCache

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

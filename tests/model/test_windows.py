"""Sliding windows: what a token sees, in which layers."""

import pytest
import torch

from minigpt.errors import ConfigError
from minigpt.interpret.views import attention_maps
from minigpt.model.cache import KVCache
from minigpt.model.gpt import GPT

from .variants import random_tokens, randomise, small_config, small_model


@pytest.mark.parametrize(
    ("n_layer", "pattern", "expected"),
    [
        (4, "SSSL", (5, 5, 5, None)),
        (6, "SSSL", (5, None, 5, 5, 5, None)),
        (3, "SL", (None, 5, None)),
        (2, "SSSSL", (5, None)),
        (2, "S", (5, 5)),
        (0, "S", ()),
    ],
)
def test_which_layers_have_the_window(n_layer, pattern, expected):
    assert small_config(n_layer=n_layer, sliding_window=5, window_pattern=pattern).windows == expected


def test_without_a_window_all_layers_see_all():
    assert small_config().windows == (None, None)


@pytest.mark.parametrize("attention", ["fused", "explicit"])
@pytest.mark.parametrize("position", ["none", "rotary", "alibi"])
def test_a_layer_reads_the_last_tokens_alone(position, attention):
    model = small_model(position=position, attention=attention, sliding_window=5, window_pattern="SL")
    maps = attention_maps(model, random_tokens(model.config))  # (L, B, H, T, T)
    seen = torch.ones(12, 12).tril()
    assert torch.equal((maps[1] > 0).double(), seen.double().expand_as(maps[1]))
    assert torch.equal((maps[0] > 0).double(), seen.triu(-4).double().expand_as(maps[0]))
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, 4, 12).double())


@pytest.mark.parametrize("position", ["none", "rotary", "alibi"])
def test_how_far_a_token_reaches(position):
    """Two layers with a window of 4: three tokens back, and three more through those."""
    model = small_model(position=position, sliding_window=4, window_pattern="S")
    tokens = random_tokens(model.config, B=1)
    before = model(tokens)
    for place in range(12):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % 19
        differs = (model(changed) != before).any(dim=-1)[0].nonzero().flatten().tolist()
        assert differs == list(range(place, min(12, place + 7)))


def test_a_window_as_long_as_the_text_changes_nothing():
    """Texts shorter than the window take the fast kernel without a mask."""
    model, tokens = small_model(sliding_window=7), random_tokens(small_config(), T=7)
    without = GPT(small_config()).double().eval()
    without.load_state_dict(model.state_dict())
    assert torch.equal(model(tokens), without(tokens))
    longer = random_tokens(small_config(), T=8)
    assert not torch.allclose(model(longer), without(longer))


def test_cached_is_uncached_behind_the_window():
    model = small_model(position="rotary", sliding_window=3, window_pattern="S")
    tokens = random_tokens(model.config)
    cache = KVCache(model.config, 3, 12, dtype=torch.float64)
    pieces = [model(piece, cache) for piece in tokens.split([1, 4, 1, 1, 5], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens))


def test_training_reaches_every_weight_through_a_mask():
    model = GPT(small_config(sliding_window=2, window_pattern="S", position="alibi", dropout=0.1))
    randomise(model)
    tokens = random_tokens(model.config)
    model.loss(tokens, tokens).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sliding_window": 12}, "sliding_window=12 must be less than block_size=12"),
        ({"sliding_window": 0}, "sliding_window=0 must be at least 1"),
        ({"sliding_window": True}, "must be a whole number"),
        ({"sliding_window": 4, "window_pattern": "SSLX"}, "window_pattern='SSLX' must be letters S"),
        ({"sliding_window": 4, "window_pattern": "LL"}, "one S at least"),
        ({"sliding_window": 4, "window_pattern": ""}, "one S at least"),
        ({"sliding_window": 4, "window_pattern": None}, "one S at least"),
        ({"window_pattern": "SL"}, "window_pattern=SL has no effect without sliding_window"),
    ],
)
def test_one_line_for_a_bad_setting(settings, message):
    with pytest.raises(ConfigError, match=message):
        small_config(**settings)

"""Position kinds against the numbers that their papers publish."""

import math
from typing import get_args

import pytest
import torch

from minigpt.errors import ConfigError
from minigpt.model.config import PositionName
from minigpt.model.positions import POSITIONS, AlibiPosition, RotaryPosition, alibi_slopes, rotate, sinusoids

from .variants import random_tokens, small_config, small_model

CPU = torch.device("cpu")


def test_the_table_holds_every_name():
    assert set(POSITIONS) == set(get_args(PositionName))


def test_each_kind_overrides_one_of_the_three():
    methods = ("embed", "rotation", "bias")
    overridden = {name: [method for method in methods if method in vars(kind)] for name, kind in POSITIONS.items()}
    assert overridden.pop("none") == list(methods)  # the base, which defines all three to do nothing
    assert overridden == {"learned": ["embed"], "sinusoidal": ["embed"], "rotary": ["rotation"], "alibi": ["bias"]}


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(0, 50, 8, CPU)
    for position in range(50):
        for i in range(4):
            angle = position / 10000 ** (2 * i / 8)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    # Position 1 of a model of width 4: sin 1, cos 1, sin 1/100, cos 1/100.
    expected = torch.tensor([0.841471, 0.540302, 0.009999833, 0.99995])
    torch.testing.assert_close(sinusoids(1, 1, 4, CPU)[0], expected, rtol=0, atol=1e-6)


def test_sinusoids_are_added_to_the_scaled_embedding():
    model = small_model(position="sinusoidal", n_layer=0, norm_placement="post")
    tokens = random_tokens(model.config)
    expected = model.token_embedding(tokens) * 4 + sinusoids(0, 12, 16, CPU)  # 4 = sqrt(n_embd)
    torch.testing.assert_close(model.hidden(tokens), expected)


def test_learned_positions_are_added_and_end_at_block_size():
    model = small_model(position="learned", n_layer=0, norm_placement="post")
    tokens = random_tokens(model.config)
    torch.testing.assert_close(model.hidden(tokens), model.token_embedding(tokens) + model.position.weight)
    assert model.max_positions == 12
    with pytest.raises(
        ConfigError, match=r"^13 tokens are more than block_size=12, the most that position=learned can encode$"
    ):
        model(random_tokens(model.config, T=13))


@pytest.mark.parametrize("position", ["sinusoidal", "rotary", "alibi", "none"])
def test_other_kinds_go_beyond_block_size(position):
    model = small_model(position=position)
    tokens = random_tokens(model.config, T=30)
    assert model.max_positions is None
    assert model(tokens).shape == (3, 30, 19)


def test_rotation_equals_llama_of_transformers():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    from transformers import LlamaConfig

    H, T, D = 2, 40, 16
    q, k = torch.randn(2, 3, H, T, D)
    config = LlamaConfig(hidden_size=H * D, num_attention_heads=H, max_position_embeddings=T)
    cos, sin = llama.LlamaRotaryEmbedding(config)(q, torch.arange(T)[None])
    expected = llama.apply_rotary_pos_emb(q, k, cos, sin)

    rotation = RotaryPosition(small_config(position="rotary", n_head=H, n_embd=H * D)).rotation(
        torch.empty(1, T, H * D), 0
    )
    turned = [rotate(heads.transpose(1, 2), rotation).transpose(1, 2) for heads in (q, k)]  # theirs are (B, H, T, D)
    torch.testing.assert_close(turned, list(expected), rtol=0, atol=1e-6)


def test_rotated_products_depend_on_distance_alone_and_lengths_stay():
    position = RotaryPosition(small_config(position="rotary", n_head=1, rotary_base=100.0))
    x = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)
    q, k = (vector.expand(1, 30, 1, 16) for vector in x)  # the same query and the same key at 30 positions
    rotation = position.rotation(torch.empty(1, 30, 16), 0).double()
    q, k = rotate(q, rotation), rotate(k, rotation)
    products = q[0, :, 0] @ k[0, :, 0].T  # (30, 30)
    for distance in (-7, 0, 3):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert products.diagonal(3)[0] != pytest.approx(products.diagonal(-7)[0].item())
    torch.testing.assert_close(q.norm(dim=-1), x[0].norm().expand(1, 30, 1), rtol=0, atol=1e-6)


def test_rotation_continues_behind_a_cache():
    position = RotaryPosition(small_config(position="rotary"))
    whole = position.rotation(torch.empty(1, 12, 16), 0)
    torch.testing.assert_close(position.rotation(torch.empty(1, 5, 16), 7), whole[:, 7:], rtol=0, atol=0)


def test_alibi_slopes_are_the_published_ones():
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(16) == pytest.approx([2 ** (-i / 2) for i in range(1, 17)])
    # 12 heads: those of 8, then the 1st, 3rd, 5th and 7th of 16.
    assert alibi_slopes(12) == pytest.approx([*alibi_slopes(8), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    assert alibi_slopes(1) == [1 / 256]
    assert alibi_slopes(3) == [1 / 16, 1 / 256, 1 / 4]


def test_alibi_bias_falls_with_the_distance_and_hides_the_future():
    bias = AlibiPosition(small_config(position="alibi", n_head=2)).bias(torch.empty(1, 2, 16), start=1)
    inf = math.inf
    # two new tokens at positions 1 and 2; slopes 1/16 and 1/256
    expected = torch.tensor([[[-1, 0, -inf], [-2, -1, 0]]]) * torch.tensor([1 / 16, 1 / 256])[:, None, None]
    torch.testing.assert_close(bias, expected[None])

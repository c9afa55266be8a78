"""layernorm and rmsnorm against their formulas."""

from typing import get_args

import torch

from minigpt.model.config import NormName
from minigpt.model.gpt import GPT
from minigpt.model.norms import NORMS, LayerNorm, RMSNorm

from .variants import randomise, small_config


def test_the_table_holds_every_name():
    assert tuple(NORMS) == get_args(NormName)


def test_layernorm_is_its_formula():
    norm = LayerNorm(8, small_config(norm_eps=0.3)).double()
    randomise(norm)
    x = 3 + 2 * torch.randn(4, 5, 8, dtype=torch.float64)
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    torch.testing.assert_close(norm(x), (x - mean) / (variance + 0.3).sqrt() * norm.weight + norm.bias)


def test_rmsnorm_is_its_formula():
    norm = RMSNorm(8, small_config(norm_eps=0.3)).double()
    randomise(norm)
    x = 3 + 2 * torch.randn(4, 5, 8, dtype=torch.float64)
    mean_square = (x * x).mean(dim=-1, keepdim=True)
    torch.testing.assert_close(norm(x), x / (mean_square + 0.3).sqrt() * norm.weight)


def test_only_layernorm_has_a_bias_and_only_when_asked():
    assert NORMS["layernorm"](8, small_config()).bias is not None
    assert NORMS["layernorm"](8, small_config(bias=False)).bias is None
    assert [name for name, _ in NORMS["rmsnorm"](8, small_config()).named_parameters()] == ["weight"]


def test_without_gain_a_norm_has_no_parameters():
    for norm in NORMS.values():
        assert not list(norm(8, small_config(norm_gain=False)).parameters())
    model = GPT(small_config(norm="layernorm", norm_gain=False, qk_norm=True))
    assert not [name for name, _ in model.named_parameters() if "norm" in name]
    x = torch.randn(4, 8)
    torch.testing.assert_close(
        RMSNorm(8, small_config(norm_gain=False))(x), RMSNorm(8, small_config())(x), rtol=1e-6, atol=1e-6
    )


def test_rmsnorm_keeps_bfloat16_with_float32_weights(recwarn):
    assert RMSNorm(8, small_config())(torch.randn(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert not recwarn.list


def test_every_norm_of_a_model_takes_the_epsilon_of_the_config():
    model = GPT(small_config(norm="layernorm", qk_norm=True, norm_eps=0.25))
    norms = [module for module in model.modules() if isinstance(module, LayerNorm | RMSNorm)]
    assert len(norms) == 2 * 4 + 1  # two of the stream, one of the queries, one of the keys a layer; the last
    assert {norm.eps for norm in norms} == {0.25}

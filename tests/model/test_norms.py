"""layernorm and rmsnorm against their formulas."""

from typing import get_args

import torch

from minigpt.model.config import NormName
from minigpt.model.norms import EPSILON, NORMS, LayerNorm, RMSNorm

from .variants import randomise


def test_the_table_holds_every_name():
    assert tuple(NORMS) == get_args(NormName)


def test_layernorm_is_its_formula():
    norm = LayerNorm(8, bias=True).double()
    randomise(norm)
    x = 3 + 2 * torch.randn(4, 5, 8, dtype=torch.float64)
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    torch.testing.assert_close(norm(x), (x - mean) / (variance + EPSILON).sqrt() * norm.weight + norm.bias)


def test_rmsnorm_is_its_formula():
    norm = RMSNorm(8).double()
    randomise(norm)
    x = 3 + 2 * torch.randn(4, 5, 8, dtype=torch.float64)
    mean_square = (x * x).mean(dim=-1, keepdim=True)
    torch.testing.assert_close(norm(x), x / (mean_square + EPSILON).sqrt() * norm.weight)


def test_only_layernorm_has_a_bias_and_only_when_asked():
    assert NORMS["layernorm"](8, True).bias is not None
    assert NORMS["layernorm"](8, False).bias is None
    assert [name for name, _ in NORMS["rmsnorm"](8, True).named_parameters()] == ["weight"]


def test_rmsnorm_keeps_bfloat16_with_float32_weights(recwarn):
    assert RMSNorm(8)(torch.randn(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert not recwarn.list

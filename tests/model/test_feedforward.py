"""Feed-forward layers against their formulas."""

import math
from typing import get_args

import pytest
import torch

from minigpt.model.config import GATED_ACTIVATIONS, ActivationName
from minigpt.model.feedforward import FEEDFORWARDS, GatedFeedForward, build_feedforward

from .variants import randomise, small_config


def normal_cdf(x: torch.Tensor) -> torch.Tensor:
    return (1 + torch.erf(x / math.sqrt(2))) / 2


FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * normal_cdf(x),
    "gelu_tanh": lambda x: x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu2": lambda x: x.clamp(min=0) ** 2,
    "swiglu": lambda x: x / (1 + torch.exp(-x)),
    "geglu": lambda x: x * normal_cdf(x),
}


def test_the_tables_hold_every_name():
    assert tuple(FEEDFORWARDS) == tuple(FORMULAS) == get_args(ActivationName)
    gated = {name for name, (kind, _) in FEEDFORWARDS.items() if kind is GatedFeedForward}
    assert gated == GATED_ACTIVATIONS


@pytest.mark.parametrize("activation", get_args(ActivationName))
def test_it_is_its_formula(activation):
    layer = build_feedforward(small_config(activation=activation)).double()
    randomise(layer)
    x = torch.randn(2, 3, 16, dtype=torch.float64)
    up = x @ layer.up.weight.T + layer.up.bias
    formula = FORMULAS[activation]
    gated = activation in GATED_ACTIVATIONS
    inner = formula(x @ layer.gate.weight.T + layer.gate.bias) * up if gated else formula(up)
    torch.testing.assert_close(layer(x), inner @ layer.down.weight.T + layer.down.bias)

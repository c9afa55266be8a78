"""Initial values, measured, against the table in init.py."""

import math
import re

import pytest
import torch

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT

from .variants import VARIANTS, small_config
from .variants import name as title


def deviations(**settings) -> dict[str, float]:
    """Measured standard deviation of every matrix; wide enough that 3 % is many sigma."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=500, block_size=64, n_layer=3, n_head=4, n_embd=128, **settings))
    return {name: weight.std().item() for name, weight in model.named_parameters() if weight.dim() > 1}


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_standard_deviations(activation):
    residual = 0.02 / math.sqrt(2 * 3)
    for name, measured in deviations(activation=activation, tie_embeddings=False).items():
        expected = residual if name.endswith(("attention.output.weight", "feedforward.down.weight")) else 0.02
        assert measured == pytest.approx(expected, rel=0.03), name


def test_the_table_covers_every_matrix():
    names = {re.sub(r"^blocks\.\d\.", "", name) for name in deviations(activation="swiglu", tie_embeddings=False)}
    linear = {"attention.qkv", "attention.output", "feedforward.up", "feedforward.gate", "feedforward.down"}
    assert names == {f"{name}.weight" for name in linear} | {"token_embedding.weight", "position.weight", "head.weight"}


def test_means_biases_and_norms():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=500, qk_norm=True))
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            assert abs(parameter.mean().item()) < 0.02 * 5 / math.sqrt(parameter.numel()), name
        else:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name


def test_the_global_seed_decides():
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(GPT(GPTConfig(vocab_size=50)).head.weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_no_layers():
    assert GPT(GPTConfig(vocab_size=50, n_layer=0)).head.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS[::5], ids=title)
def test_built_on_the_meta_device_and_initialised_is_the_same(variant):
    torch.manual_seed(3)
    plain = GPT(small_config(**variant))
    with torch.device("meta"):
        model = GPT(small_config(**variant))
    assert all(parameter.is_meta for parameter in model.parameters())
    torch.manual_seed(3)
    model.to_empty(device="cpu").initialise()
    after = torch.rand(1)
    expected = plain.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert (model.head.weight is model.token_embedding.weight) == variant["tie_embeddings"]
    torch.manual_seed(3)
    GPT(small_config(**variant))
    assert torch.equal(after, torch.rand(1))  # and the random state behind it is the same

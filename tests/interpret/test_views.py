"""Attention maps are the weights that the model used; ratios of norms."""

import pytest
import torch
from helpers import random_gpt, tiny_config
from model.variants import random_tokens, small_model

from minigpt.interpret.views import attention_maps, gradients, matrices, norm_ratios


@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_maps_give_the_values_that_the_model_gathered(attention):
    model = small_model(position="alibi", n_kv_head=2, attention=attention)
    tokens = random_tokens(model.config)
    seen = {}
    model.blocks[1].attention.register_forward_hook(lambda module, inputs, output: seen.update(x=inputs, y=output))
    maps = attention_maps(model, tokens)
    assert maps.shape == (2, 3, 4, 12, 12)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, 4, 12, dtype=torch.float64))

    last = model.blocks[1].attention
    _, _, v = last.project(*seen["x"][:2])
    gathered = maps[1] @ v.repeat_interleave(2, dim=1)
    torch.testing.assert_close(last.output(gathered.transpose(1, 2).reshape(3, 12, 16)), seen["y"])


def test_no_hook_stays():
    model = small_model()
    attention_maps(model, random_tokens(model.config))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_ratios_of_norms():
    model = random_gpt(tiny_config(30, n_layer=1))
    tokens = torch.randint(30, (2, 8))
    assert gradients(model) == {}
    model.loss(tokens, tokens).backward()
    found = norm_ratios(gradients(model), matrices(model))
    names = {"token_embedding", "position", *(f"blocks.0.{layer}" for layer in (
        "attention.qkv", "attention.output", "feedforward.up", "feedforward.down"))}  # fmt: skip
    assert set(found) == names
    weight = model.blocks[0].attention.qkv.weight
    assert found["blocks.0.attention.qkv"] == pytest.approx(float(weight.grad.norm() / weight.detach().norm()))
    assert norm_ratios({"a": torch.ones(2)}, {"a": torch.zeros(2)}) == {}

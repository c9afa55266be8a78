"""Attention maps are the weights that the model used."""

import pytest
import torch
from model.variants import random_tokens, small_model

from minigpt.interpret.views import attention_maps


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

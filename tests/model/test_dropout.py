"""Dropout: where it acts in the model."""

import pytest
import torch
from torch import nn

from minigpt.model.attention import Attention
from minigpt.model.gpt import GPT
from minigpt.model.positions import PositionSignals

from .variants import random_tokens, small_config


@pytest.mark.parametrize("attention", ["fused", "explicit"])
@torch.no_grad()
def test_attention_weights_are_dropped_in_training_only(attention):
    torch.manual_seed(0)
    module = Attention(small_config(attention=attention, dropout=0.5))
    x = torch.randn(1, 12, 16).expand(4000, 12, 16)  # one sequence many times
    signals = PositionSignals(0, None, None)
    full = module.eval()(x[:1], signals)[0]
    dropped = module.train()(x, signals)
    assert dropped[0].sub(dropped[1]).abs().max() > 0.01
    # The mean over many draws is the value without dropout.
    torch.testing.assert_close(dropped.mean(dim=0), full, rtol=0, atol=6 * dropped.std(dim=0).max().item() / 4000**0.5)


def test_embedding_and_both_residual_branches_are_dropped():
    torch.manual_seed(0)
    model = GPT(small_config(dropout=0.5))
    places = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout)]
    blocks = [f"blocks.{layer}.{name}" for layer in (0, 1) for name in ("attention.dropout", "dropout")]
    assert places == ["dropout", *blocks]
    calls = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, inputs, output: calls.append((output == 0).float().mean()))
    model(random_tokens(model.config, B=64))
    assert len(calls) == 1 + 2 * 3  # the embedding; attention weights and two branches in each of two blocks
    weights = [calls.pop(place) for place in (4, 1)]
    assert all(share.item() == pytest.approx(0.5, abs=0.03) for share in calls)
    assert all(share.item() > 0.7 for share in weights)  # nearly half of them are masked

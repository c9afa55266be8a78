"""Dropout: its share, its mean, its gradient, and where it acts."""

import pytest
import torch

from minigpt.model.attention import Attention
from minigpt.model.dropout import Dropout, dropout
from minigpt.model.gpt import GPT
from minigpt.model.positions import PositionSignals

from .variants import random_tokens, small_config


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_share_and_values(p):
    torch.manual_seed(0)
    y = dropout(torch.full((1000, 1001), 3.0), p)  # 1001: not a multiple of the four values of a random word
    dropped = (y == 0).float()
    # 4 standard deviations of a mean of a million Bernoulli values: at most 4 * 0.5 / 1000
    assert dropped.mean().item() == pytest.approx(p, abs=2e-3)
    assert torch.equal(y.unique(), torch.tensor([0.0, 3.0 / (1 - round(p * 2**16) / 2**16)]))
    # No pattern: every fourth value, and neighbours, are dropped independently.
    for step in range(4):
        assert dropped.flatten()[step::4].mean().item() == pytest.approx(p, abs=4e-3)
    together = (dropped[:, 1:] * dropped[:, :-1]).mean().item()
    assert together == pytest.approx(p * p, abs=3e-3)


def test_gradient_passes_where_values_pass():
    torch.manual_seed(0)
    x = torch.ones(50, 50, requires_grad=True)
    y = dropout(x, 0.3)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_the_seed_decides():
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(torch.ones(100), 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_extremes_and_evaluation():
    x = torch.randn(30)
    assert dropout(x, 0.0) is x
    assert dropout(x, 1 - 1e-9).isfinite().all()
    assert Dropout(0.5).eval()(x) is x
    assert dropout(torch.ones(64, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16
    assert dropout(torch.empty(0, 3), 0.5).shape == (0, 3)


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
    places = [name for name, module in model.named_modules() if isinstance(module, Dropout)]
    assert places == ["dropout", "blocks.0.dropout", "blocks.1.dropout"]
    calls = []
    for module in model.modules():
        if isinstance(module, Dropout):
            module.register_forward_hook(lambda module, inputs, output: calls.append((output == 0).float().mean()))
    model(random_tokens(model.config, B=64))
    assert len(calls) == 1 + 2 * 2  # the embedding, and two branches in each of two blocks
    assert all(share.item() == pytest.approx(0.5, abs=0.03) for share in calls)

"""The model learns: where the loss starts, that a batch can be learnt by heart, and two curves in numbers."""

import math

import pytest
import torch

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT

MODERN = {
    "position": "rotary",
    "norm": "rmsnorm",
    "activation": "swiglu",
    "n_kv_head": 2,
    "qk_norm": True,
    "bias": False,
}
PAPER = {"position": "sinusoidal", "norm_placement": "post", "activation": "relu"}


def build(**settings) -> GPT:
    torch.manual_seed(0)
    shape = {"vocab_size": 65, "block_size": 32, "n_layer": 2, "n_head": 4, "n_embd": 64, "dropout": 0.0}
    return GPT(GPTConfig(**shape | settings))


def batch(B: int = 8, T: int = 33) -> torch.Tensor:
    """Tokens that follow a rule with period 65: each sequence walks in its own step. No random numbers."""
    step = torch.arange(1, B + 1)[:, None]
    return (step * torch.arange(T) + step**2) % 65


def train(model: GPT, tokens: torch.Tensor, steps: int, lr: float = 3e-3) -> list[float]:
    """Losses before each of `steps` steps of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.1)
    losses = []
    for _ in range(steps):
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("settings", [{}, MODERN, PAPER, {"position": "alibi"}, {"tie_embeddings": False}], ids=str)
def test_loss_at_the_start_is_that_of_a_uniform_guess(settings):
    model = build(**settings).eval()
    tokens = torch.randint(65, (64, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = model.loss(tokens[:, :-1], tokens[:, 1:]).item()
    assert loss == pytest.approx(math.log(65), abs=0.05)


@pytest.mark.parametrize("settings", [{}, MODERN, PAPER, {"position": "alibi"}, {"position": "none"}], ids=str)
def test_one_batch_is_learnt_by_heart(settings):
    losses = train(build(**settings), batch(), steps=100)
    assert losses[-1] < 0.05


# fmt: off
GOLDEN = {
    "default": ({}, [
        4.1992, 3.8495, 3.6826, 3.5954, 3.4193, 3.2992, 3.1746, 3.0564, 2.9459, 2.8340,
        2.7238, 2.6134, 2.5056, 2.3977, 2.2892, 2.1806, 2.0728, 1.9669, 1.8620, 1.7585,
    ]),
    "modern": (MODERN, [
        4.2133, 3.9299, 3.7112, 3.5158, 3.3429, 3.1865, 3.0349, 2.8863, 2.7389, 2.5982,
        2.4894, 2.3663, 2.2231, 2.0940, 1.9735, 1.8493, 1.7296, 1.6135, 1.4992, 1.3895,
    ]),
}
# fmt: on


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_curve(name):
    """Twenty steps, as measured when this was written: whatever changes them changes what the model is."""
    settings, expected = GOLDEN[name]
    assert train(build(**settings), batch(), steps=20) == pytest.approx(expected, abs=2e-3)

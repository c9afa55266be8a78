"""Dropout on a CPU: its share, its mean, its gradient."""

import pytest
import torch

from minigpt.system.cpu_kernels.dropout import Dropout


def dropped_by(x: torch.Tensor, p: float) -> torch.Tensor:
    return Dropout(p)(x)


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
def test_share_and_values(p):
    torch.manual_seed(0)
    y = dropped_by(torch.full((1000, 1001), 3.0), p)  # 1001: not a multiple of the four values of a random word
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
    y = dropped_by(x, 0.3)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_the_seed_decides():
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropped_by(torch.ones(100), 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_extremes_and_evaluation():
    x = torch.randn(30)
    assert dropped_by(x, 0.0) is x
    assert dropped_by(x, 1 - 1e-9).isfinite().all()
    assert Dropout(0.5).eval()(x) is x
    assert dropped_by(torch.ones(64, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16
    assert dropped_by(torch.empty(0, 3), 0.5).shape == (0, 3)

"""The gradients that are written out: against torch's own operations, first and second derivatives."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.system.cpu_kernels.gradients import on_cpu, squared_relu, unit_rms


def plain_rms(x: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[-1:], None, 1e-3)


WAYS = {
    "rms": (lambda x: unit_rms(x, 1e-3), plain_rms),
    "relu2": (squared_relu, lambda x: F.relu(x).square()),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4, 6)])
def test_value_and_gradient_are_torchs(name: str, shape: tuple[int, ...]) -> None:
    ours, torchs = WAYS[name]
    x, g = torch.randn(2, *shape, dtype=torch.float64)
    x[..., 0] = 0.0
    results = []
    for way in (ours, torchs):
        leaf = x.clone().requires_grad_()
        y = way(leaf)
        y.backward(g)
        results.append((y.detach(), leaf.grad))
    for mine, its in zip(*results, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WAYS)
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    """Of the first and the second order, in float64."""
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(WAYS[name][0], (x,))
    assert torch.autograd.gradgradcheck(WAYS[name][0], (x,))


@pytest.mark.parametrize("name", WAYS)
def test_the_input_is_left_as_it_is(name: str) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    before = x.detach().clone()
    WAYS[name][0](x).sum().backward()
    assert torch.equal(x, before)


def test_a_vector_of_zeros_has_a_gradient() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    unit_rms(x, 1e-5).sum().backward()
    assert x.grad.isfinite().all()


def test_where_they_are_used() -> None:
    assert on_cpu(torch.zeros(1))
    assert not on_cpu(torch.zeros(1, dtype=torch.bfloat16))
    assert not on_cpu(torch.zeros(1, device="meta"))
    seen = []
    torch.func.vmap(lambda x: (seen.append(on_cpu(x)), x)[1])(torch.zeros(2, 1))
    torch.func.vmap(lambda x: (seen.append(on_cpu(torch.zeros(1))), x)[1])(torch.zeros(2, 1))
    with forward_ad.dual_level():
        seen.append(on_cpu(torch.zeros(1)))
    assert seen == [False] * 3


def test_torch_func_goes_through_a_model() -> None:
    """Over some of its parameters, and forwards: torch knows no rule of ours for either."""
    torch.manual_seed(0)
    settings = {"norm": "rmsnorm", "activation": "relu2", "attention": "explicit", "qk_norm": True, "dropout": 0.0}
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8, **settings)).double()
    tokens = torch.randint(11, (2, 8))
    weights = dict(model.named_parameters())
    name = "blocks.1.feedforward.up.weight"

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(model, {**weights, name: weight}, (tokens,)).square().mean()

    stack = torch.stack([weights[name], 2 * weights[name]]).detach()
    expected = torch.stack([loss(weight) for weight in stack])
    torch.testing.assert_close(torch.func.vmap(loss)(stack), expected)
    direction = torch.randn_like(stack[0])
    _, slope = torch.func.jvp(loss, (stack[0],), (direction,))
    leaf = stack[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(slope, (gradient * direction).sum())

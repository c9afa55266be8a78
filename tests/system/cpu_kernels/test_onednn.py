"""Products by oneDNN: the numbers and the gradients of torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.system.cpu_kernels.linear import TRAINING_FROM, Linear
from minigpt.system.cpu_kernels.onednn import HAS_ONEDNN, onednn_can, product

pytestmark = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch comes without oneDNN")

IN, OUT = 24, 40


def factors(*shape: int, out: int = OUT, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    torch.manual_seed(0)
    x, weight = torch.randn(*shape, IN, requires_grad=True), torch.randn(out, IN, requires_grad=True)
    return x, weight, torch.randn(out, requires_grad=True) if bias else None


@pytest.mark.parametrize("out", [OUT, IN, 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7), (2, 3, 4)])
def test_gradients_are_those_of_torch(shape, bias, out):
    given = factors(*shape, out=out, bias=bias)
    wanted = [tensor for tensor in given if tensor is not None]
    upstream = torch.randn(*shape, out)
    expected = torch.autograd.grad(F.linear(*given), wanted, upstream)
    result = product(*given)
    assert result.shape == upstream.shape
    found = torch.autograd.grad(result, wanted, upstream)
    torch.testing.assert_close(result, F.linear(*given), rtol=0, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert all(gradient.is_contiguous() for gradient in found)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(lambda like: torch.ones(()).expand_as(like), id="one number"),
        pytest.param(lambda like: torch.randn(like.shape[::-1]).permute(2, 1, 0), id="turned"),
        pytest.param(lambda like: torch.randn(2 * like.shape[0], *like.shape[1:])[::2], id="every other"),
    ],
)
def test_gradients_may_come_in_any_layout(layout):
    x, weight, bias = factors(3, 7)
    upstream = layout(torch.empty(3, 7, OUT))
    expected = torch.autograd.grad(F.linear(x, weight, bias), (x, weight, bias), upstream)
    found = torch.autograd.grad(product(x, weight, bias), (x, weight, bias), upstream)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_only_what_is_wanted_has_a_gradient():
    x, weight, bias = factors(5)
    product(x.detach(), weight, bias.detach()).sum().backward()
    assert (x.grad, bias.grad) == (None, None)
    product(x, weight.detach(), None).sum().backward()
    torch.testing.assert_close(x.grad, weight.detach().sum(0).expand_as(x), rtol=0, atol=1e-5)
    assert not product(x.detach(), weight.detach(), None).requires_grad
    product(x.detach(), weight.detach(), bias).sum().backward()
    torch.testing.assert_close(bias.grad, torch.full((OUT,), 5.0))


def test_gradients_of_gradients_are_those_of_torch():
    found, expected = ([], [])
    for way, results in ((product, found), (F.linear, expected)):
        x, weight, bias = factors(5)
        first = torch.autograd.grad(way(x, weight, bias).square().sum(), (x, weight), create_graph=True)
        results += torch.autograd.grad(sum(gradient.square().sum() for gradient in first), (x, weight, bias))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


def test_torch_func_is_given_torchs_own():
    layer = Linear(IN, TRAINING_FROM // IN, bias=False)
    x = torch.randn(3, 2, IN)
    assert onednn_can(x, layer.weight)

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        assert not onednn_can(x, weight)
        return torch.func.functional_call(layer, {"weight": weight}, x).square().sum()

    by_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(layer.weight.detach(), x)
    layer(x).square().sum().backward()
    torch.testing.assert_close(by_sample.sum(0), layer.weight.grad, rtol=1e-4, atol=1e-4)


def test_the_same_products_give_the_same_bits():
    x, weight, bias = factors(64, 12)
    upstream = torch.randn(64, 12, OUT)
    first, second = (
        torch.autograd.grad(product(each, weight, bias), (each, weight, bias), upstream)
        for each in (x, torch.cat((torch.zeros(1), x.detach().flatten()))[1:].view_as(x).requires_grad_())
    )
    assert all(map(torch.equal, first, second))

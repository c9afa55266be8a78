"""The linear layer: the numbers of `nn.Linear`, whichever library computes them."""

import pytest
import torch
import torch.nn.functional as F

from minigpt.model import linear
from minigpt.model.linear import Linear, onednn_can

IN, OUT = 640, 512


def layer(*, bias: bool) -> Linear:
    torch.manual_seed(0)
    return Linear(IN, OUT, bias=bias)


@pytest.mark.skipif(not linear.HAS_ONEDNN, reason="this torch comes without oneDNN")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 7), (5,)])
def test_onednn_gives_the_numbers_of_torch(shape, bias, monkeypatch):
    model, x = layer(bias=bias), torch.randn(*shape, IN)
    expected = F.linear(x, model.weight, model.bias)
    monkeypatch.setattr(F, "linear", None)
    with torch.inference_mode():
        found = model(x)
        turned = model(x.movedim(-1, 0).contiguous().movedim(0, -1))  # the same numbers, strewn in memory
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5)])
def test_gradients_double_precision_autocast_and_compiled_code_stay_with_torch(shape):
    model, x = layer(bias=True), torch.randn(*shape, IN)
    assert not onednn_can(x, model.weight)
    model(x).sum().backward()
    assert model.weight.grad is not None
    with torch.no_grad():
        assert not onednn_can(x.double(), model.weight.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert not onednn_can(x, model.weight)
            assert model(x).dtype == torch.bfloat16
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-5)
        assert onednn_can(x, model.weight) == linear.HAS_ONEDNN


@pytest.mark.parametrize(
    ("rows", "width", "large"), [(1, 256, False), (1, 512, True), (8, 256, False), (16, 256, True)]
)
def test_products_too_small_to_be_worth_it_stay_with_torch(rows, width, large, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(F, "linear", lambda x, weight, bias: calls.append("torch"))
    with torch.inference_mode():
        Linear(width, width)(torch.randn(1, rows, width))
    assert calls == ([] if large and linear.HAS_ONEDNN else ["torch"])


def test_a_checkpoint_does_not_see_which_class_it_was():
    assert layer(bias=True).state_dict().keys() == torch.nn.Linear(IN, OUT).state_dict().keys()

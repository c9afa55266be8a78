"""The linear layer: the numbers of `nn.Linear`, whichever library computes them."""

import pytest
import torch
import torch.nn.functional as F

from minigpt.system.cpu_kernels import linear
from minigpt.system.cpu_kernels.linear import Linear, packed
from minigpt.system.cpu_kernels.onednn import HAS_ONEDNN, PackedWeight, onednn_can

IN, OUT = 640, 512
needs_onednn = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch comes without oneDNN")


def layer(*, bias: bool) -> Linear:
    torch.manual_seed(0)
    return Linear(IN, OUT, bias=bias)


@needs_onednn
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
def test_double_precision_autocast_and_compiled_code_stay_with_torch(shape):
    model, x = layer(bias=True), torch.randn(*shape, IN)
    with torch.no_grad():
        assert not onednn_can(x.double(), model.weight.double())
        with torch.autocast("cpu", torch.bfloat16):
            assert not onednn_can(x, model.weight)
            assert model(x).dtype == torch.bfloat16
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-5)
        assert onednn_can(x, model.weight) == HAS_ONEDNN


@pytest.mark.parametrize(
    ("rows", "width", "large"), [(1, 256, False), (1, 512, True), (8, 256, False), (16, 256, True)]
)
def test_products_too_small_to_be_worth_it_stay_with_torch(rows, width, large, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(F, "linear", lambda x, weight, bias: calls.append("torch"))
    with torch.inference_mode():
        Linear(width, width)(torch.randn(1, rows, width))
    assert calls == ([] if large and HAS_ONEDNN else ["torch"])


@pytest.mark.parametrize(("rows", "large"), [(6, False), (7, True)])
def test_so_do_those_with_gradients(rows, large, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(F, "linear", lambda x, weight, bias: calls.append("torch"))
    layer(bias=False)(torch.randn(1, rows, IN))
    assert calls == ([] if large and HAS_ONEDNN else ["torch"])


def test_a_checkpoint_does_not_see_which_class_it_was():
    assert layer(bias=True).state_dict().keys() == torch.nn.Linear(IN, OUT).state_dict().keys()


# ----- packed weights


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7])
@torch.no_grad()
def test_packed_weights_give_the_same_numbers_while_they_are_those_of_the_layer(rows, bias):
    model, x = layer(bias=bias), torch.randn(2, rows, IN)
    with packed(model):
        copy = model.packed.copy
        assert model.packed.is_of(model.weight)
        torch.testing.assert_close(model(x), F.linear(x, model.weight, model.bias), rtol=0, atol=1e-5)
        with packed(model):  # a second text beside the first
            assert model.packed.copy is copy
        assert model.packed.copy is copy
        model.weight.mul_(2.0)  # as a step of an optimizer
        torch.testing.assert_close(model(x), F.linear(x, model.weight, model.bias), rtol=0, atol=1e-5)
        model.weight.data = torch.randn(OUT, IN) / IN
        torch.testing.assert_close(model(x), F.linear(x, model.weight, model.bias), rtol=0, atol=1e-5)
    assert model.packed is None


@needs_onednn
def test_packed_weights_have_no_part_in_training():
    model, x = layer(bias=True), torch.randn(8, IN)
    with packed(model):
        model(x).sum().backward()
    torch.testing.assert_close(model.weight.grad, x.sum(0).expand(OUT, IN), rtol=0, atol=1e-4)


@needs_onednn
def test_it_is_the_packed_copy_that_is_multiplied_with():
    model, x = layer(bias=False), torch.randn(1, IN)
    with packed(model), torch.no_grad():
        model.packed = model.packed._replace(copy=PackedWeight.of(2 * model.weight).copy)
        torch.testing.assert_close(model(x), F.linear(x, 2 * model.weight), rtol=0, atol=1e-5)


def test_what_onednn_does_not_multiply_is_not_packed(monkeypatch):
    with torch.inference_mode():
        unversioned = layer(bias=True)
    for model in (layer(bias=True).double(), Linear(64, 64), unversioned):
        with packed(model):
            assert model.packed is None
    monkeypatch.setattr(linear, "PACKED_BYTES", 4 * IN * OUT - 1)
    model = layer(bias=True)
    with packed(model):
        assert model.packed is None

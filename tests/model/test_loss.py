"""The loss by pieces: the numbers of the plain way, without its memory."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch.multiprocessing.reductions import StorageWeakRef

from minigpt.model import config as config_module
from minigpt.model.config import loss_rows
from minigpt.model.gpt import GPT
from minigpt.model.loss import IGNORE_INDEX, _SumInChunks
from minigpt.model.sizes import activation_bytes
from minigpt.system.cpu_kernels.swap import use_cpu_kernels

from .variants import random_tokens, small_config, small_model

SETTINGS = [{}, {"tie_embeddings": False}, {"logit_softcap": 3.0}, {"norm_placement": "post", "position": "rotary"}]


@pytest.fixture
def by_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pieces of five tokens, which divide no batch of the tests; the lengths of the pieces, as they are done."""
    monkeypatch.setattr(config_module, "LOGITS_AT_ONCE", 5 * 19 + 18)
    lengths: list[int] = []
    plain = GPT.logits
    monkeypatch.setattr(GPT, "logits", lambda self, hidden: lengths.append(len(hidden)) or plain(self, hidden))
    return lengths


def plain_loss(model: GPT, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """All logits at once."""
    logits = model.head(model.hidden(tokens))
    return F.cross_entropy(model.squash(logits).float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)


def gradients(model: GPT, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_loss_and_gradients_are_those_of_the_plain_way(settings, by_pieces):
    model = small_model(**settings).train()
    tokens, targets = random_tokens(model.config), random_tokens(model.config, seed=2)
    targets[0, 3:9] = IGNORE_INDEX
    targets[2, :] = IGNORE_INDEX
    loss = 3.0 * model.loss(tokens, targets)  # some other use of it than as it is
    assert by_pieces == [5] * 7 + [1]
    expected = 3.0 * plain_loss(model, tokens, targets)
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-6, atol=0, check_dtype=False)
    ours, theirs = gradients(model, loss), gradients(model, expected)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():  # the softmax is in float32
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("frozen", ["head", "trunk", "all but the position"])
def test_weights_that_are_frozen_stay_without_gradient(frozen, by_pieces):
    model = small_model(tie_embeddings=False).train()
    for name, weight in model.named_parameters():
        is_head, is_position = name.startswith("head"), name.startswith("position")
        weight.requires_grad_({"head": not is_head, "trunk": is_head, "all but the position": is_position}[frozen])
    tokens, targets = random_tokens(model.config), random_tokens(model.config, seed=2)
    ours = gradients(model, model.loss(tokens, targets))
    theirs = gradients(model, plain_loss(model, tokens, targets))
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_losses_of_each_token(by_pieces):
    model = small_model()
    tokens, targets = random_tokens(model.config), random_tokens(model.config, seed=2)
    targets[1, :4] = IGNORE_INDEX
    with torch.inference_mode():
        losses = model.loss(tokens, targets, reduction="none")
        assert by_pieces == [5] * 7 + [1]
        mean = model.loss(tokens, targets)
    whole = model.loss(tokens, targets, reduction="none")  # with gradients, in one piece
    assert by_pieces[-1] == 36
    assert (losses[1, :4] == 0).all()
    torch.testing.assert_close(losses, whole.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mean, losses.sum() / 32)
    ours, theirs = gradients(model, whole.sum() / 32), gradients(model, plain_loss(model, tokens, targets))
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_under_autocast_the_matrix_is_read_in_bfloat16_and_its_gradient_is_float32(by_pieces):
    model = small_model().float().train()
    tokens, targets = random_tokens(model.config), random_tokens(model.config, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        loss, expected = model.loss(tokens, targets), plain_loss(model, tokens, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    ours, theirs = gradients(model, loss), gradients(model, expected)
    for name, gradient in theirs.items():
        assert ours[name].dtype == torch.float32
        torch.testing.assert_close(ours[name], gradient, rtol=0.05, atol=0.05 * float(gradient.abs().max()), msg=name)


def test_a_batch_that_fits_is_the_plain_way_to_the_bit(monkeypatch):
    model = small_model().train()
    tokens, targets = random_tokens(model.config), random_tokens(model.config, seed=2)
    monkeypatch.setattr(_SumInChunks, "apply", lambda *_: pytest.fail("by pieces"))
    assert torch.equal(model.loss(tokens, targets), plain_loss(model, tokens, targets))


def test_what_is_kept_between_forward_and_backward_is_as_counted(by_pieces):
    config = small_config(position="rotary")
    model, tokens = use_cpu_kernels(GPT(config)), random_tokens(config)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, tuple[StorageWeakRef, int]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(tokens, tokens.clone())
    alive = sum(
        size for address, (storage, size) in saved.items() if address not in parameters and not storage.expired()
    )
    assert loss.requires_grad
    targets, scalar = 3 * 12 * 8, 8  # of the targets nothing is kept; how many of them counted
    assert alive - scalar == activation_bytes(config, batch_size=3) - targets


def test_rows():
    assert loss_rows(50304) == 667
    assert loss_rows(2**26) == 1


def test_the_index_is_torchs_own() -> None:
    assert inspect.signature(F.cross_entropy).parameters["ignore_index"].default == IGNORE_INDEX


def test_a_batch_without_a_target_costs_nothing_and_teaches_nothing(by_pieces) -> None:
    """The mean over none is no number, and would be taken for a divergence; by pieces and in one go."""
    model = small_model().train()
    tokens = random_tokens(model.config)
    for part in (tokens, tokens[:1, :4]):
        targets = torch.full_like(part, IGNORE_INDEX)
        loss = model.loss(part, targets)
        assert loss.item() == 0
        assert not any(gradient.any() for gradient in gradients(model, loss).values())
        assert not model.loss(part, targets, reduction="none").any()
    assert set(by_pieces) > {4, 5}

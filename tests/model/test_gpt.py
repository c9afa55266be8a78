"""GPT: names of weights, tying, the loss, and the model without layers."""

import pytest
import torch
import torch.nn.functional as F

from minigpt.model.gpt import GPT
from minigpt.model.loss import IGNORE_INDEX

from .variants import random_tokens, small_config, small_model


def test_names_of_weights_are_the_contract():
    attention = ["attention.qkv.weight", "attention.qkv.bias", "attention.output.weight", "attention.output.bias"]
    feedforward = [f"feedforward.{part}.{kind}" for part in ("up", "down") for kind in ("weight", "bias")]
    norms = [f"{part}_norm.{kind}" for part in ("attention", "feedforward") for kind in ("weight", "bias")]
    block = {f"blocks.{n}.{name}" for n in (0, 1) for name in attention + feedforward + norms}
    outside = {"token_embedding.weight", "position.weight", "final_norm.weight", "final_norm.bias", "head.weight"}
    assert set(GPT(small_config()).state_dict()) == block | outside


def test_names_of_weights_of_the_other_kinds():
    kinds = {"position": "rotary", "norm": "rmsnorm", "norm_placement": "post", "activation": "swiglu"}
    config = small_config(**kinds, n_layer=1, qk_norm=True, bias=False)
    block = ["attention.qkv", "attention.output", "attention.query_norm", "attention.key_norm", "attention_norm"]
    block += ["feedforward.gate", "feedforward.up", "feedforward.down", "feedforward_norm"]
    expected = {f"blocks.0.{name}.weight" for name in block} | {"token_embedding.weight", "head.weight"}
    assert set(GPT(config).state_dict()) == expected


def test_tied_is_the_same_parameter_counted_once():
    tied, untied = GPT(small_config()), GPT(small_config(tie_embeddings=False))
    assert tied.head.weight is tied.token_embedding.weight
    assert untied.head.weight is not untied.token_embedding.weight
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (tied, untied)]
    assert count[1] - count[0] == 19 * 16
    again = GPT(small_config())
    again.load_state_dict(tied.state_dict())
    assert again.head.weight is again.token_embedding.weight


def test_logits_are_the_head_of_hidden():
    model = small_model()
    tokens = random_tokens(model.config)
    hidden = model.hidden(tokens)
    assert hidden.shape == (3, 12, 16)
    torch.testing.assert_close(model(tokens), hidden @ model.head.weight.T)


def test_loss_is_the_cross_entropy_in_nats():
    model = small_model().float()
    tokens = random_tokens(model.config)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    log_probabilities = model(inputs).log_softmax(dim=-1)
    expected = -log_probabilities.gather(2, targets[..., None]).squeeze(2)
    torch.testing.assert_close(model.loss(inputs, targets, reduction="none"), expected)
    torch.testing.assert_close(model.loss(inputs, targets), expected.mean())


def test_ignored_targets_count_for_nothing():
    model = small_model().float()
    tokens = random_tokens(model.config)
    targets = tokens.roll(-1, dims=1)
    full = model.loss(tokens, targets, reduction="none")
    targets[:, -3:] = IGNORE_INDEX
    partial = model.loss(tokens, targets, reduction="none")
    assert torch.equal(partial[:, :-3], full[:, :-3])
    assert (partial[:, -3:] == 0).all()
    torch.testing.assert_close(model.loss(tokens, targets), full[:, :-3].mean())


def test_loss_is_float32_under_autocast():
    model = GPT(small_config()).eval()
    tokens = random_tokens(model.config)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
        loss = model.loss(tokens, tokens)
    assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    expected = F.cross_entropy(logits.double().flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)  # bfloat16 itself would be off by 0.01


def test_without_layers_the_model_sees_only_the_last_token():
    model = small_model(n_layer=0, position="none")
    tokens = random_tokens(model.config)
    logits = model(tokens)
    for token in range(19):
        rows = logits[tokens == token]
        torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    assert model.loss(tokens, tokens).isfinite()


def test_smallest_shapes():
    one_token = small_model(vocab_size=1, n_head=1)
    zeros = torch.zeros(2, 5, dtype=torch.long)
    assert one_token.loss(zeros, zeros).item() == 0.0  # nothing else can follow
    narrow = small_model(n_embd=4, n_head=4, position="alibi")
    assert narrow(zeros[:1, :1]).isfinite().all()

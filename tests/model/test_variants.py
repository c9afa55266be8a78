"""What holds for every variant of the model."""

import dataclasses
import itertools

import pytest
import torch

from minigpt.model.cache import KVCache
from minigpt.model.gpt import GPT

from .variants import FEW_VARIANTS, VARIANTS, name, random_tokens, small_config, small_model

every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=name)
few_variants = pytest.mark.parametrize("variant", FEW_VARIANTS, ids=name)


def test_the_variants_hold_every_pair_of_settings():
    pairs = {frozenset(pair) for variant in VARIANTS for pair in itertools.combinations(variant.items(), 2)}
    choices = {key: {variant[key] for variant in VARIANTS} for key in VARIANTS[0]}
    expected = {
        frozenset({(first, a), (second, b)})
        for first, second in itertools.combinations(choices, 2)
        for a, b in itertools.product(choices[first], choices[second])
    }
    assert pairs == expected
    assert all({variant[key] for variant in FEW_VARIANTS} == values for key, values in choices.items())


@every_variant
def test_shape_causality_and_independent_sequences(variant):
    model = small_model(**variant)
    tokens = random_tokens(model.config)
    logits = model(tokens)
    assert logits.shape == (*tokens.shape, model.config.vocab_size)

    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % model.config.vocab_size
    after = model(changed)
    torch.testing.assert_close(after[:, :7], logits[:, :7], rtol=0, atol=1e-12)
    assert ((after - logits)[:, 7:].abs().amax(dim=-1) > 1e-6).all()  # every later position has seen it

    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(tokens[order]), logits[order], rtol=0, atol=1e-12)


@every_variant
def test_explicit_attention_equals_fused_with_gradients(variant):
    fused = small_model(**variant, attention="fused")
    explicit = GPT(dataclasses.replace(fused.config, attention="explicit")).double().eval()
    explicit.load_state_dict(fused.state_dict())
    tokens = random_tokens(fused.config)
    losses = [model.loss(tokens[:, :-1], tokens[:, 1:], reduction="none") for model in (fused, explicit)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-5)  # the loss itself is float32
    gradients = [
        torch.autograd.grad(model(tokens).square().sum(), list(model.parameters())) for model in (fused, explicit)
    ]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)
    assert all(gradient.abs().max() > 0 for gradient in gradients[0])


def check_cached_equals_uncached(model: GPT) -> None:
    tokens = random_tokens(model.config)
    expected = model(tokens)
    for pieces in ([1] * 12, [5, 1, 4, 2], [12]):
        cache = KVCache(model.config, batch_size=3, max_length=12, dtype=torch.float64)
        logits = torch.cat([model(piece, cache) for piece in tokens.split(pieces, dim=1)], dim=1)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)


@every_variant
@torch.no_grad()
def test_cached_equals_uncached(variant):
    check_cached_equals_uncached(small_model(**variant))


@few_variants
@torch.no_grad()
def test_cached_equals_uncached_in_explicit_attention(variant):
    check_cached_equals_uncached(small_model(**variant, attention="explicit"))


@few_variants
def test_compiles_into_one_graph(variant):
    torch.compiler.reset()
    model = GPT(small_config(**variant, dropout=0.1))
    tokens = random_tokens(model.config)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.manual_seed(3)
    expected = model(tokens)
    torch.manual_seed(3)
    torch.testing.assert_close(compiled(tokens), expected)
    # Another length of the window and evaluation compile too.
    model.eval()
    torch.testing.assert_close(compiled(tokens[:, :5]), model(tokens[:, :5]))


@pytest.mark.parametrize("attention", ["fused", "explicit"])
@few_variants
def test_bfloat16_stays_near_float32(variant, attention):
    model = small_model(**variant, attention=attention).float()
    tokens = random_tokens(model.config)
    expected = model.loss(tokens, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = model.loss(tokens, tokens)
        cache = KVCache(model.config, batch_size=3, max_length=12)
        stepwise = torch.cat([model(piece, cache) for piece in tokens.split([5, 1, 6], dim=1)], dim=1)
    pure = model.bfloat16().loss(tokens, tokens)
    assert autocast.dtype == pure.dtype == torch.float32
    torch.testing.assert_close(autocast, expected, rtol=0.03, atol=0)
    torch.testing.assert_close(pure, expected, rtol=0.03, atol=0)
    assert stepwise.isfinite().all()

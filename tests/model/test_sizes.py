"""Closed forms against the real model: counted parameters, counted FLOPs, measured bytes."""

import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minigpt.model.cache import KVCache
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.model.sizes import (
    activation_bytes,
    cache_bytes,
    flops_per_token,
    forward_flops_per_token,
    parameter_count,
    parameters_by_part,
)
from minigpt.system.cpu_kernels.swap import use_cpu_kernels

from .variants import FEW_VARIANTS, VARIANTS, name, random_tokens, small_config

every_variant = pytest.mark.parametrize("variant", [*VARIANTS, {"n_layer": 0}, {"n_ff": 24}], ids=name)


def part_of(parameter_name: str) -> str:
    """The part of `parameters_by_part` that a name of the state dict belongs to."""
    for part in ("attention", "feedforward"):
        if f".{part}." in parameter_name:
            return part
    return "norms" if "norm" in parameter_name else parameter_name.split(".", maxsplit=1)[0]


@every_variant
def test_parameters_by_part(variant):
    config = small_config(**variant)
    counted = dict.fromkeys(parameters_by_part(config), 0)
    for parameter_name, parameter in GPT(config).named_parameters():
        counted[part_of(parameter_name)] += parameter.numel()
    assert parameters_by_part(config) == counted
    assert parameter_count(config) == sum(counted.values())


def test_gpt2_has_124_million_parameters():
    config = GPTConfig(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, n_embd=768)
    assert parameter_count(config) == 124_439_808


@every_variant
def test_flops(variant):
    config = small_config(**variant, attention="explicit")  # the counter sees into no fused kernel
    model = GPT(config)
    tokens = random_tokens(config)
    with FlopCounterMode(display=False) as counter:
        loss = model.loss(tokens, tokens)
    assert counter.get_total_flops() == tokens.numel() * forward_flops_per_token(config)
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    # Training is forward and twice as much backward.
    assert counter.get_total_flops() == tokens.numel() * 2 * forward_flops_per_token(config)
    assert flops_per_token(config) == 3 * forward_flops_per_token(config)


def test_flops_are_6_n_and_12_l_c_t():
    config = small_config(bias=False, position="rotary", norm_placement="post")
    norms = parameters_by_part(config)["norms"]
    multiplied = parameter_count(config) - norms  # the tied embedding counts as the output layer
    assert flops_per_token(config) == 6 * multiplied + 12 * 2 * 16 * 12


def kept_bytes(model: GPT, tokens: torch.Tensor, targets: torch.Tensor) -> int:
    """Bytes of all storages that autograd saves for the backward pass of the loss, parameters aside."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.loss(tokens, targets)
    return sum(storage.nbytes() for address, storage in saved.items() if address not in parameters)


@pytest.mark.parametrize(
    "settings", [{}, {"attention": "explicit"}, {"dropout": 0.1}, {"attention": "explicit", "dropout": 0.1}], ids=str
)
@every_variant
def test_activation_bytes(variant, settings):
    config = small_config(**variant, **settings)
    tokens = random_tokens(config)
    scalars = 4 + 1  # the number of targets that counted, which the loss divides by, and whether there was none
    assert kept_bytes(use_cpu_kernels(GPT(config)), tokens, tokens.clone()) - scalars == activation_bytes(
        config, batch_size=3
    )


def test_activation_bytes_follow_batch_and_width():
    config = small_config(position="rotary")
    one, two, three = (activation_bytes(config, batch) for batch in (1, 2, 3))
    assert three - two == two - one > 0
    indices = 2 * 3 * 12 * 8
    assert 2 * (activation_bytes(config, 3, bytes_per_element=2) - indices) == three - indices


@pytest.mark.parametrize("variant", FEW_VARIANTS, ids=name)
def test_cache_bytes(variant):
    config = small_config(**variant)
    for dtype, width in ((torch.float32, 4), (torch.bfloat16, 2)):
        cache = KVCache(config, batch_size=5, max_length=7, dtype=dtype)
        tensors = [tensor for layer in cache.layers for tensor in layer]
        assert sum(tensor.nbytes for tensor in tensors) == cache_bytes(config, 5, 7, width)


def test_explicit_attention_costs_memory_with_the_square_of_the_length():
    def bytes_per_token(attention, T):
        config = dataclasses.replace(small_config(), attention=attention, block_size=T)
        return activation_bytes(config, 1) / T

    assert bytes_per_token("fused", 2048) == bytes_per_token("fused", 1024)
    assert bytes_per_token("explicit", 2048) - bytes_per_token("explicit", 1024) == 2 * 4 * 1024 * 4  # L H 1024 floats

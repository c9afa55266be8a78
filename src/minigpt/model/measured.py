"""Sizes of a model with components of the user's own, counted on the real model, as no closed form knows them."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT, meta_model
from minigpt.system.components import import_component

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Count = Callable[Concatenate[GPTConfig, Arguments], Result]


def keep_results(count: Count[Arguments, Result]) -> Count[Arguments, Result]:
    """Cache the results of `count` by the config and the components that it names, as they are now."""

    @functools.lru_cache(maxsize=64)
    def kept(config: GPTConfig, _components: tuple[Any, ...], *arguments: Any) -> Result:
        return count(config, *arguments)  # type: ignore[call-arg]

    @functools.wraps(count)
    def counted(config: GPTConfig, *arguments: Arguments.args, **_: Arguments.kwargs) -> Result:
        components = tuple(import_component(key, name) for key, name in config.custom_names().items())
        return kept(config, components, *arguments)

    return counted


@keep_results
def counted_by_part(config: GPTConfig) -> dict[str, int]:
    """Count the parameters by the parts of `sizes.parameters_by_part`, with `other` for those of none of them."""
    counts = dict.fromkeys(("token_embedding", "position", "attention", "feedforward", "norms", "head"), 0)
    for name, parameter in meta_model(config).named_parameters():
        counts[part_of(name)] = counts.get(part_of(name), 0) + parameter.numel()
    return counts


def part_of(name: str) -> str:
    """Return the part of the model that a parameter belongs to, by its name in the state dict."""
    for part in ("attention", "feedforward"):
        if f".{part}." in name:
            return part
    first = name.split(".", maxsplit=1)[0]
    if first in {"token_embedding", "position", "head"}:
        return first
    return "norms" if "norm" in name else "other"


@keep_results
def counted_block_matrices(config: GPTConfig) -> int:
    """Count the weights of linear layers in the blocks."""
    return sum(layer.weight.numel() for layer in meta_model(config).blocks.modules() if isinstance(layer, nn.Linear))


@keep_results
def counted_flops(config: GPTConfig) -> int:
    """Count the FLOPs of one token's forward pass in a window of block_size, by torch's counter."""

    @torch.no_grad()
    def count(model: GPT) -> int:
        with FlopCounterMode(display=False) as counter:
            model.eval()(_tokens(model, 1))
        return int(counter.get_total_flops()) // config.block_size

    return _on_model(config, count)


@keep_results
def kept_numbers(config: GPTConfig, batch_size: int) -> tuple[int, int]:
    """Count the floating-point numbers, and the other bytes, that autograd keeps of the loss on a batch of windows."""

    def count(model: GPT) -> tuple[int, int]:
        parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.train().loss(_tokens(model, batch_size), _tokens(model, batch_size))
        floats, others = 0, 0
        for address, tensor in kept.items():
            if address not in parameters:
                n_bytes = tensor.untyped_storage().nbytes()
                floats += n_bytes // tensor.itemsize if tensor.is_floating_point() else 0
                others += 0 if tensor.is_floating_point() else n_bytes
        return floats, others

    return _on_model(config, count)


def _tokens(model: GPT, batch_size: int) -> Tensor:
    shape = (batch_size, model.config.block_size)
    return torch.zeros(shape, dtype=torch.int64, device=model.token_embedding.weight.device)


def _on_model(config: GPTConfig, count: Callable[[GPT], Result]) -> Result:
    """Count on the meta device; on the CPU if a component needs numbers to compute with."""
    try:
        return count(meta_model(config))
    except Exception:  # torch raises errors of several kinds where the meta device lacks numbers
        with torch.random.fork_rng(devices=[]):
            return count(GPT(config))

"""Read a model: attention maps, the logit lens, its matrices, their gradients and updates."""

from collections.abc import Mapping

import torch
from torch import Tensor

from minigpt.errors import ConfigError
from minigpt.interpret.tracing import Trace, trace
from minigpt.model.gpt import GPT


@torch.no_grad()
def attention_maps(model: GPT, tokens: Tensor) -> Tensor:
    """tokens (B, T) int64 -> attention weights (L, B, H, T, T) of a model with at least one layer.

    Row t of a map holds what token t takes from tokens 0..t; it sums to 1. Weights are those before dropout, whichever
    kernel the model runs. Raises ConfigError for an attention function or a block of the user's own without them.
    """
    custom = model.config.custom_names()
    if "model.attention" in custom:
        raise ConfigError(f"the attention weights of model.attention={custom['model.attention']} are not known")
    return trace(model, tokens, keep=["pattern"]).stack("pattern")


def logit_lens(model: GPT, trace: Trace) -> Tensor:
    """Return logits (L + 1, B, T, V): the stream before each layer and after the last, through final norm and head.

    The last of them are the model's own logits (nostalgebraist 2020, "interpreting GPT: the logit lens"). `trace` is
    one of `model` that kept `stream`.
    """
    layers = [trace[f"stream.{layer}"] for layer in range(model.config.n_layer + 1)]
    # Layer by layer: products of another number of rows may round otherwise, and the last is to be the model's own.
    return torch.stack([model.logits(model.final_norm(stream)) for stream in layers])


def matrices(model: GPT) -> dict[str, Tensor]:
    """Return the weight matrices by their layers' names, a tied one once; gains and biases are left out."""
    return {
        name.removesuffix(".weight"): weight.detach() for name, weight in model.named_parameters() if weight.dim() > 1
    }


def gradients(model: GPT) -> dict[str, Tensor]:
    """Return the gradients of `matrices`, of those that have one."""
    found = ((name, weight.grad) for name, weight in model.named_parameters() if weight.dim() > 1)
    return {name.removesuffix(".weight"): grad for name, grad in found if grad is not None}


def norm_ratios(parts: Mapping[str, Tensor], wholes: Mapping[str, Tensor]) -> dict[str, float]:
    """Return |part| / |whole| by name, Frobenius norms; a whole of zeros has no ratio."""
    pairs = [(name, parts[name], wholes[name]) for name in parts]
    norms = [torch.stack([part.norm(), whole.norm()]).float() for _, part, whole in pairs]
    values = torch.stack(norms).tolist() if norms else []  # one wait for the device
    return {name: part / whole for (name, *_), (part, whole) in zip(pairs, values, strict=True) if whole > 0}

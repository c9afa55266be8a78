"""Small models of every kind, with weights that make a mistake visible."""

import itertools
import random
from typing import get_args

import torch
from torch import nn

from minigpt.model.config import ActivationName, GPTConfig, NormName, NormPlacement, PositionName
from minigpt.model.gpt import GPT

# Every combination of the closed families ...
KINDS = [
    {"position": position, "norm": norm, "norm_placement": placement, "activation": activation}
    for position, norm, placement, activation in itertools.product(
        get_args(PositionName), get_args(NormName), get_args(NormPlacement), get_args(ActivationName)
    )
]
# ... each with one of the 24 combinations of the smaller settings: all in turn, in another order for each position.
DETAILS = [
    {"n_kv_head": n_kv_head, "qk_norm": qk_norm, "bias": bias, "tie_embeddings": tied}
    for n_kv_head, qk_norm, bias, tied in itertools.product((None, 2, 1), (False, True), (False, True), (False, True))
]
VARIANTS = [kind | DETAILS[(7 * i + i // 24) % 24] for i, kind in enumerate(KINDS)]
# ... and the rarer settings thrown in by dice.
_DICE = random.Random(0)
for _variant in VARIANTS:
    _variant |= {"norm_gain": _DICE.random() < 0.6, "zero_init": _DICE.random() < 0.3}
    _variant["logit_softcap"] = _DICE.choice([None, None, 5.0])
    _variant["sliding_window"] = _DICE.choice([None, None, 5])
    _variant["mup_base_width"] = _DICE.choice([None, None, 8])
# Each setting in several variants: for the checks that take longer.
FEW_VARIANTS = VARIANTS[::13]


def name(variant: dict) -> str:
    """A test's name: the values in a row."""
    return "-".join(value if isinstance(value, str) else f"{key}={value}" for key, value in variant.items())


def small_config(**settings) -> GPTConfig:
    """Two layers, four heads of width 4, no dropout."""
    small = {"vocab_size": 19, "block_size": 12, "n_layer": 2, "n_head": 4, "n_embd": 16, "dropout": 0.0}
    return GPTConfig(**small | settings)


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Weights far from their initial values: biases and norms as well, and attention far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
            parameter.copy_(0.3 * noise if parameter.dim() > 1 else parameter + 0.3 * noise)


def small_model(**settings) -> GPT:
    """In eval mode and float64, so that rounding cannot hide a mistake."""
    model = GPT(small_config(**settings)).double().eval()
    randomise(model)
    return model


def random_tokens(config: GPTConfig, B: int = 3, T: int | None = None, seed: int = 1) -> torch.Tensor:
    """(B, T) tokens, a full window unless told otherwise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (B, T or config.block_size), generator=generator)

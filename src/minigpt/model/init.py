"""The values that a new model starts from."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn

from minigpt.errors import ConfigError
from minigpt.model.attention import Attention
from minigpt.model.config import GPTConfig
from minigpt.model.feedforward import FeedForward
from minigpt.model.positions import LearnedPosition

STD = 0.02


def draw_weights(model: nn.Module, config: GPTConfig, head: nn.Linear) -> None:
    """Draw every weight of a GPT from torch's global generator; `head` is its output layer.

    Normal distributions of mean 0 (Radford et al. 2019, section 2.3, and its code):

        weight                                    standard deviation
        token_embedding, head                     0.02 (sinusoidal positions multiply the embedding by sqrt(C))
        position (learned)                        0.02 (GPT-2's code has 0.01; transformers' has this)
        attention.qkv, feedforward.up and .gate   0.02
        attention.output, feedforward.down        0.02 / sqrt(2 n_layer)
        biases                                    all 0
        norms                                     weight 1, bias 0 (set where they are made)

    The stream is the sum of 2 n_layer residual branches; drawing them narrower keeps its variance free of depth.

    With zero_init attention.output, feedforward.down and an untied head are 0: every block begins as the identity
    (Zhang et al. 2019, "Fixup", section 3; Yang et al. 2022, "Tensor Programs V", appendix D.2, for the output layer).

    With mup_base_width the matrices of the blocks are narrower by sqrt(n_embd / mup_base_width): their variance falls
    as 1 / inputs, so that their outputs are as large at every width (Yang et al. 2022, table 8); the two embeddings and
    the head keep theirs.

    A component of the user's own has its linear layers and embeddings drawn by the same rules. What it has beyond them,
    or wants otherwise, it sets in a method `reset_parameters`, which is called last.
    """
    hidden_std = STD / math.sqrt(config.width_multiplier)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            draw(module, STD if module is head else hidden_std)
        elif isinstance(module, nn.Embedding | LearnedPosition):
            nn.init.normal_(module.weight, std=STD)
    residual_std = 0.0 if config.zero_init else hidden_std / math.sqrt(2 * max(config.n_layer, 1))
    for module in model.modules():
        branch = module.output if isinstance(module, Attention) else getattr(module, "down", None)
        if isinstance(module, Attention | FeedForward) and isinstance(branch, nn.Linear):
            draw(branch, residual_std)
    if config.zero_init and not config.tie_embeddings:
        nn.init.zeros_(head.weight)
    for module in reversed(list(model.modules())):  # a module after those inside it
        if not _is_torchs(module):
            _reset(module)


def initialise(model: nn.Module, config: GPTConfig, head: nn.Linear) -> None:
    """Give a GPT whose memory is uninitialised the values that building it gives, by the same random numbers.

    Raises ConfigError for a component of the user's own with parameters or buffers that nothing would set.
    """
    for module in model.modules():
        own = [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
        sets_them = isinstance(module, LearnedPosition) or hasattr(module, "reset_parameters")
        if own and not sets_them and not _is_torchs(module):
            raise ConfigError(
                f"{type(module).__qualname__} needs a method reset_parameters that sets {', '.join(own)}: without it a "
                "model cannot be initialised after it is built on the meta device"
            )
    _repeat_constructors(model)
    draw_weights(model, config, head)


def _repeat_constructors(module: nn.Module) -> None:
    """Set and draw what torch's constructors did when the model was built; the user's own advanced no generator."""
    is_custom = type(module).__module__.partition(".")[0] not in {"torch", "minigpt"}
    with torch.random.fork_rng(devices=[]) if is_custom else nullcontext():
        if _is_torchs(module):
            _reset(module)
        for child in module.children():
            _repeat_constructors(child)


def _reset(module: nn.Module) -> None:
    reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()


def _is_torchs(module: nn.Module) -> bool:
    """Whether torch wrote the module's parameters, or a class of minigpt's derived from such a one."""
    known = isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm | nn.RMSNorm)
    return known or type(module).__module__.startswith("torch.")


def draw(linear: nn.Linear, std: float) -> None:
    """Draw weights from a normal distribution of standard deviation `std`; set biases to 0."""
    nn.init.normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)

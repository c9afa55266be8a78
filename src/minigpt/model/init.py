"""The values that a new model starts from."""

import math

from torch import nn

from minigpt.model.attention import Attention
from minigpt.model.config import GPTConfig
from minigpt.model.feedforward import FeedForward
from minigpt.model.positions import LearnedPosition

STD = 0.02


def initialise(model: nn.Module, config: GPTConfig, head: nn.Linear) -> None:
    """Draw every weight of a GPT anew, from torch's global generator; `head` is its output layer.

    Normal distributions of mean 0 (Radford et al. 2019, section 2.3, and its code):

        weight                                    standard deviation
        token_embedding, head                     0.02 (sinusoidal positions multiply the embedding by sqrt(C))
        position (learned)                        0.02 (GPT-2's code has 0.01; transformers' has this)
        attention.qkv, feedforward.up and .gate   0.02
        attention.output, feedforward.down        0.02 / sqrt(2 n_layer)
        biases                                    all 0
        norms                                     weight 1, bias 0 (set where they are made)

    With zero_init attention.output, feedforward.down and an untied head are 0: every block begins as the identity
    (Zhang et al. 2019, "Fixup", section 3; Yang et al. 2022, "Tensor Programs V", appendix D.2, for the output layer).

    With mup_base_width the matrices of the blocks are narrower by sqrt(n_embd / mup_base_width): their variance falls
    as 1 / inputs, so that what they give is as large at every width (Yang et al. 2022, table 8); the two embeddings and
    the head keep theirs.

    The stream is the sum of 2 n_layer residual branches; drawing them narrower keeps its variance free of depth.
    """
    hidden_std = STD / math.sqrt(config.width_multiplier)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            draw(module, STD if module is head else hidden_std)
        elif isinstance(module, nn.Embedding | LearnedPosition):
            nn.init.normal_(module.weight, std=STD)
    residual_std = 0.0 if config.zero_init else hidden_std / math.sqrt(2 * max(config.n_layer, 1))
    for module in model.modules():
        if isinstance(module, Attention):
            draw(module.output, residual_std)
        elif isinstance(module, FeedForward):
            draw(module.down, residual_std)
    if config.zero_init and not config.tie_embeddings:
        nn.init.zeros_(head.weight)


def draw(linear: nn.Linear, std: float) -> None:
    """Weights from a normal distribution of deviation `std`, biases 0."""
    nn.init.normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)

"""The residual block: attention, then feed-forward, each added to the residual stream; or the user's own."""

import torch
from torch import Tensor, nn

from minigpt.model.attention import Attention
from minigpt.model.cache import LayerCache
from minigpt.model.config import GPTConfig, NormPlacement
from minigpt.model.custom import build_module, supports_cache, try_once
from minigpt.model.feedforward import build_feedforward
from minigpt.model.norms import build_norm
from minigpt.model.positions import PositionSignals


@supports_cache
class PreNormBlock(nn.Module):
    """x + f(norm(x)): a clear path from top to bottom (Radford et al. 2019, 2.3; Xiong et al. 2020, figure 1)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.feedforward_norm = build_norm(config)
        self.feedforward = build_feedforward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, signals: PositionSignals, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), signals, cache))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))


@supports_cache
class PostNormBlock(PreNormBlock):
    """norm(x + f(x)): the arrangement of the paper (Vaswani et al. 2017, section 3.1; dropout as in 5.4)."""

    def forward(self, x: Tensor, signals: PositionSignals, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = self.attention_norm(x + self.dropout(self.attention(x, signals, cache)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


BLOCKS: dict[NormPlacement, type[PreNormBlock]] = {"pre": PreNormBlock, "post": PostNormBlock}
"""Blocks by `model.norm_placement`. `model.block` takes the dotted name of a class of the same protocol:

    class Parallel(PreNormBlock):                  any nn.Module; a PreNormBlock has all the parts of ours
        def __init__(self, config): ...            config: GPTConfig
        def forward(self, x, signals, cache=None): ...
                                                   (B, T, C) -> (B, T, C); pass `signals` and `cache` to Attention
        def reset_parameters(self): ...            only with parameters or buffers of its own, see model/init.py

A class that passes `cache` on, or needs none, is marked `@supports_cache` (minigpt.model.custom); without the mark,
`cache` is always None.
"""


def build_block(config: GPTConfig) -> nn.Module:
    """Build a residual block: `config.block`, or that of `norm_placement`; ConfigError where the user's own fails."""
    if config.block is None:
        return BLOCKS[config.norm_placement](config)
    block: nn.Module = build_module("block", config.block, {}, config)
    shape = (2, min(3, config.block_size), config.n_embd)
    try_once("block", config.block, lambda: block(torch.zeros(shape), PositionSignals(0, None, None), None), shape)
    return block

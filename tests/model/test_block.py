"""The two arrangements of a residual block, written out."""

from typing import get_args

import torch

from minigpt.model.block import BLOCKS
from minigpt.model.config import NormPlacement
from minigpt.model.positions import PositionSignals

from .variants import randomise, small_config

SIGNALS = PositionSignals(0, None, None)


def test_the_table_holds_every_name():
    assert tuple(BLOCKS) == get_args(NormPlacement)


def test_pre_norm():
    block = BLOCKS["pre"](small_config())
    randomise(block)
    x = torch.randn(2, 12, 16)
    y = x + block.attention(block.attention_norm(x), SIGNALS)
    torch.testing.assert_close(block(x, SIGNALS), y + block.feedforward(block.feedforward_norm(y)))


def test_post_norm():
    block = BLOCKS["post"](small_config())
    randomise(block)
    x = torch.randn(2, 12, 16)
    y = block.attention_norm(x + block.attention(x, SIGNALS))
    torch.testing.assert_close(block(x, SIGNALS), block.feedforward_norm(y + block.feedforward(y)))

"""Sliding windows: layers in which a token sees its near past alone."""

import math

import torch
from torch import Tensor

from minigpt.model.positions import PositionSignals, distances, end_of


def within(signals: PositionSignals, x: Tensor, window: int | None) -> PositionSignals:
    """The signals of a layer whose tokens x (B, T, C) each see `window` tokens, themselves among them; None: all.

    Several such layers together see further, as the window of one reads what the layer below has gathered (Beltagy et
    al. 2020, "Longformer", section 3.1; Child et al. 2019 for the change of local and full layers).
    """
    if window is None or end_of(signals.start, x.shape[1]) <= window:
        return signals
    distance = distances(x, signals.start)  # (1 or B, 1, T, S)
    bias = torch.zeros_like(distance) if signals.bias is None else signals.bias
    return signals._replace(bias=bias.masked_fill((distance > 0) | (distance <= -window), -math.inf))

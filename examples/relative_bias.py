"""A position encoding: a trained bias for each head and each distance (T5; Raffel et al. 2020, section 2.1).

cd examples && minigpt fit --config base --model.position relative_bias.RelativeBias
"""

import math

import torch
from torch import Tensor, nn

from minigpt.model.config import GPTConfig
from minigpt.model.custom import supports_cache
from minigpt.model.positions import Position, Start, distances

FARTHEST = 32
"""Distances beyond this share one bias."""


@supports_cache
class RelativeBias(Position):
    """Adds to each attention score a number that depends on the head and on the distance of query and key alone."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config)
        self.by_distance = nn.Parameter(torch.empty(config.n_head, FARTHEST + 1))

    def reset_parameters(self) -> None:
        """Begin without any bias. Building a model and initialising it are two steps."""
        nn.init.zeros_(self.by_distance)

    def bias(self, x: Tensor, start: Start) -> Tensor:
        """(1 or B, H, T, S): the biases, -inf where a key lies in the future of its query."""
        distance = distances(x, start)[:, 0]  # (1 or B, T, S), below 0 in the past
        nearest = (-distance).clamp(0, FARTHEST).long()
        bias = self.by_distance[:, nearest].transpose(0, 1)  # (H, 1 or B, T, S) -> (1 or B, H, T, S)
        return bias.to(x.dtype).masked_fill(distance[:, None] > 0, -math.inf)

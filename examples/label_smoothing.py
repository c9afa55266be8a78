"""A loss: cross-entropy with smoothed labels (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7).

cd examples && minigpt fit --config base --run.module label_smoothing.LabelSmoothing
"""

import torch.nn.functional as F
from torch import Tensor

from minigpt.training.module import GPTModule

SMOOTHING = 0.1
"""Probability that is spread evenly over the vocabulary."""


class LabelSmoothing(GPTModule):
    """Trains against smoothed labels. Validation goes on to measure the next-token loss, so runs stay comparable."""

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """(), what training minimises. The batch is (x, y), int64 (B, T) each, y being x one token on."""
        x, y = batch
        logits = self.gpt(x)  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=-100, label_smoothing=SMOOTHING)

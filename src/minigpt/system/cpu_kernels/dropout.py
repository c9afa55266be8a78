"""Dropout whose random numbers are drawn four at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout` with a faster draw on a CPU (Srivastava et al. 2014).

    torch draws the values of its CPU dropout one by one, which takes a large part of a small model's training step.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if not self.training or self.p == 0.0:
            return x
        return x * keep_factors(x, self.p) if x.is_cpu else F.dropout(x, self.p)


def keep_factors(x: Tensor, p: float) -> Tensor:
    """Draw factors in the shape and dtype of x: 0 with probability p, else 1 / (1 - p).

    64 random bits are cut into four integers from -2^15 to 2^15 - 1, so p is rounded to a multiple of 2^-16.
    """
    dropped = min(round(p * 2**16), 2**16 - 1)  # of 2^16 equally likely numbers
    words = torch.randint(-(2**63), 2**63 - 1, ((x.numel() + 3) // 4,))  # (numbers / 4,) int64
    numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
    keep = numbers >= dropped - 2**15
    return keep.to(x.dtype).mul_(2**16 / (2**16 - dropped))

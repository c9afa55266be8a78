"""Dropout that costs little on a CPU too."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """In training, zero each value with probability p and divide the rest by 1 - p (Srivastava et al. 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return dropout(x, self.p) if self.training else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


def dropout(x: Tensor, p: float) -> Tensor:
    """The same as a function that always drops."""
    if p == 0.0:
        return x
    if x.device.type == "cpu":
        return x * cpu_keep(x, p)
    return F.dropout(x, p)


def cpu_keep(x: Tensor, p: float) -> Tensor:
    """Factors in the shape and dtype of x: 0 with probability p, else 1 / (1 - p).

    torch draws the values of its CPU dropout one by one, which takes a large part of a small model's training
    step. Here 64 random bits are cut into four whole numbers from -2^15 to 2^15 - 1, so p is rounded to a
    multiple of 2^-16.
    """
    dropped = min(round(p * 2**16), 2**16 - 1)  # of 2^16 equally likely numbers
    words = torch.randint(-(2**63), 2**63 - 1, ((x.numel() + 3) // 4,))  # (numbers / 4,) int64
    numbers = words.view(torch.int16)[: x.numel()].view(x.shape)
    keep = numbers >= dropped - 2**15
    return keep.to(x.dtype).mul_(2**16 / (2**16 - dropped))

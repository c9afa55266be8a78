"""Whether a tensor out of a file can be a weight: real numbers, each with memory of its own."""

import torch
from torch import Tensor

REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Types that become float32 by rounding alone. The smaller ones mean something only with scales stored elsewhere."""


def fault_of_weight(tensor: Tensor) -> str | None:
    """What makes `tensor` no weight, to follow its name in a sentence; None for a good one.

    torch.load builds all of these without running code, and what works with them later would fail, or take memory that
    the file never held.
    """
    if tensor.is_quantized or tensor.dtype not in REAL:
        return f"is {tensor.dtype}: quantised weights cannot be used, only {', '.join(map(_word, REAL))}"
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else _word(tensor.layout)
        return f"is a {kind} tensor: weights must be dense"
    if tensor.is_meta:
        return "is a meta tensor: it has a shape, but no numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "repeats a few numbers over a larger shape: each must stand in the file itself"
    return None


def _word(value: object) -> str:
    """torch.float32 -> float32."""
    return str(value).removeprefix("torch.")

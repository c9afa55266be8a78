"""A linear layer whose float32 products on a CPU go to the faster of torch's two libraries."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.system.cpu_kernels.onednn import PackedWeight, onednn_can, product

ONE_ROW_FROM = 2**17
ROWS_FROM = 2**19
TRAINING_FROM = 2**21
"""Multiplications in a product of one row, of several, or with gradients, from which oneDNN is the faster: its start
takes some 10 us, and a function of autograd that is written in Python some 40 more.

Measured on a two-core AMD EPYC, 1 to 768 rows, widths of 64 to 512; that of 384 in `benchmarks/results/decode.md`.
"""
PACKED_BYTES = 2**30
"""The most that `packed` copies: a larger model is read as it is."""


class Linear(nn.Linear):
    """`nn.Linear`: x W^T + b, with the same parameters and names.

    torch gives every float32 product on a CPU to MKL, which on a machine that is not Intel's uses neither its widest
    instructions nor, for a single row, more than one thread. torch brings oneDNN along, and calls it from compiled
    models; here it is called without compiling. Its sums run in another order: results differ by rounding.
    """

    packed: PackedWeight | None = None
    """Set inside `packed`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        weight, bias = self.weight, self.bias
        one_row = x.numel() == self.in_features
        enough = TRAINING_FROM if torch.is_grad_enabled() else ONE_ROW_FROM if one_row else ROWS_FROM
        if x.numel() * self.out_features > enough and onednn_can(x, weight):
            if self.packed is not None and not torch.is_grad_enabled() and self.packed.is_of(weight):
                weight = self.packed.copy
            return product(x, weight, bias)
        return F.linear(x, weight, bias)


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Inside, the weights that oneDNN multiplies with are there a second time, in the order in which it reads them.

    Without gradients, the products of few rows, as those of sampling, then take a sixth to a quarter less. The numbers
    are the same up to rounding. Layers that are packed already, or whose products are not oneDNN's, are left as they
    are.
    """
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, Linear)
        and layer.packed is None
        and layer.weight.numel() > ONE_ROW_FROM
        and onednn_can(layer.weight, layer.weight)
        and not layer.weight.is_inference()
    ]
    if sum(layer.weight.nbytes for layer in layers) > PACKED_BYTES:
        layers = []
    try:
        for layer in layers:
            layer.packed = PackedWeight.of(layer.weight)
        yield
    finally:
        for layer in layers:
            layer.packed = None

"""A linear layer whose float32 products on a CPU go to oneDNN, the faster of torch's two libraries."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.system.cpu_kernels.onednn import PackedWeight, onednn_can, product

ONE_ROW_FROM = 2**17
ROWS_FROM = 2**19
TRAINING_FROM = 2**21
"""Multiplications from which oneDNN is faster, in a product of one row, of several, and with gradients: a call takes
about 10 us, an autograd function written in Python about 40 us more.

Measured on a two-core AMD EPYC, 1 to 768 rows, widths of 64 to 512; that of 384 in `benchmarks/results/decode.md`.
"""
PACKED_BYTES = 2**30
"""Limit of what `packed` copies: a larger model is read as it is."""


class Linear(nn.Linear):
    """`nn.Linear` whose large float32 products are computed by oneDNN.

    torch gives every float32 product on a CPU to MKL, which on a processor that is not Intel's uses neither the widest
    instructions nor, for a single row, more than one thread. oneDNN comes with torch, which calls it from compiled
    models; here it is called without compiling. Its sums run in another order, so results differ by rounding.
    """

    packed: PackedWeight | None = None
    """Set within `packed`."""

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
    """Within the block, keep a second copy of the weights in the order in which oneDNN reads them.

    Without gradients, products of few rows, such as those of sampling, take a sixth to a quarter less time. The numbers
    are the same up to rounding. Layers that are packed already, or whose products are not oneDNN's, are left as they
    are: a model without CPU kernels entirely.
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

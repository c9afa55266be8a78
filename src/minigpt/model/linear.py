"""A linear layer whose float32 products on a CPU, outside training, go to the faster of torch's two libraries."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ONE_ROW_FROM = 2**17
ROWS_FROM = 2**19
"""Multiplications in a product of one row, or of several, from which oneDNN is the faster: its start takes some 10 us.

Measured on a two-core AMD EPYC, 1 to 256 rows, widths of 64 to 512; that of 384 in `benchmarks/results/decode.md`.
"""
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`nn.Linear`: x W^T + b, with the same parameters and names.

    torch gives every float32 product on a CPU to MKL, which on a machine that is not Intel's uses neither its widest
    instructions nor, for a single row, more than one thread. torch brings oneDNN along, and calls it from compiled
    models; here it is called without compiling. Its sums run in another order: results differ by rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        weight, bias = self.weight, self.bias
        n = x.numel()
        enough = ONE_ROW_FROM if n == self.in_features else ROWS_FROM
        if n * self.out_features > enough and onednn_can(x, weight):
            return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
        return F.linear(x, weight, bias)


def onednn_can(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's function takes the product of x and weight: it knows no gradients and no autocast."""
    return (
        HAS_ONEDNN
        and not torch.is_grad_enabled()
        and x.is_cpu
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )

"""A linear layer whose float32 products on a CPU, outside training, go to the faster of torch's two libraries."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ONEDNN_FROM = 2**18
"""Multiplications in one product from which oneDNN is the faster: for fewer its start, some 10 us, outweighs its gain.

Measured on a two-core AMD EPYC, 1 to 256 rows, widths of 64 to 512: the table is in `benchmarks/results/decode.md`.
"""


class Linear(nn.Linear):
    """`nn.Linear`: x W^T + b, with the same parameters and names.

    torch gives every float32 product on a CPU to MKL, which on a machine that is not Intel's uses neither its widest
    instructions nor, for a single row, more than one thread. torch brings oneDNN along, and calls it from compiled
    models; here it is called without compiling. Its sums run in another order: results differ by rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if onednn_pays(x, self.weight):
            return torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


def onednn_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether x (..., in) times the transpose of weight (out, in) is a product for oneDNN, which knows no gradients."""
    return (
        x.numel() * weight.shape[0] > ONEDNN_FROM
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and HAS_ONEDNN
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")

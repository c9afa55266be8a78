"""What `trainer.precision` means to torch: which dtype the weights have, and which one matrix products run in."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

Format = Literal["fp64", "fp32", "tf32", "fp16", "bf16"]
"""The format of the factors of a matrix product."""

_TRUE = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
PRECISIONS = ("32-true", *_TRUE, *_MIXED)
"""Full names of those that torch's own types can do."""
_SHORT = {"bf16": "bf16-mixed", "16": "16-mixed", "32": "32-true", "64": "64-true"}
"""Lightning's other names of the same."""
FORMATS: dict[torch.dtype, Format] = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}


def full_name(precision: str | int) -> str:
    """`bf16` or `32`, which Lightning takes too, as it calls them afterwards: `bf16-mixed`, `32-true`."""
    return _SHORT.get(str(precision), str(precision))


def weights_dtype(precision: str) -> torch.dtype:
    """The dtype of the weights: float32 but for a precision that ends in `-true`."""
    return _TRUE.get(precision, torch.float32)


def product_dtype(precision: str) -> torch.dtype:
    """The dtype in which the matrix products of a training step run."""
    return _MIXED.get(precision, weights_dtype(precision))


def product_format(precision: str, device: torch.device) -> Format:
    """As `product_dtype`, but `tf32` where float32 products of a CUDA device are allowed to run in that."""
    dtype = product_dtype(precision)
    tensor_cores = device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return "tf32" if dtype == torch.float32 and tensor_cores else FORMATS[dtype]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a forward pass of this precision runs."""
    dtype = _MIXED.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)

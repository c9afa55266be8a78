"""The dtypes of weights and matrix products for each `trainer.precision`."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from minigpt.errors import ConfigError, did_you_mean

Format = Literal["fp64", "fp32", "tf32", "fp16", "bf16"]
"""The format of the factors of a matrix product."""

_TRUE = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
PRECISIONS = ("32-true", "bf16-true", "64-true", *_MIXED)
"""Full names of the precisions that a run can be trained in."""
_SHORT = {"bf16": "bf16-mixed", "16": "16-mixed", "32": "32-true", "64": "64-true"}
"""Lightning's short names."""
FORMATS: dict[torch.dtype, Format] = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}


def full_name(precision: str | int) -> str:
    """The full name of a precision: `bf16` -> `bf16-mixed`, `32` -> `32-true`."""
    return _SHORT.get(str(precision), str(precision))


def check_precision(precision: str | int) -> str:
    """The full name of a precision that a run can be trained in; raises ConfigError for any other."""
    name = full_name(precision)
    if name == "16-true":
        raise ConfigError(
            "trainer.precision=16-true keeps weights and gradients in float16, where most updates are rounded to "
            "nothing or overflow: 16-mixed scales the loss, bf16-true has the range"
        )
    if name not in PRECISIONS:
        near = did_you_mean(name, PRECISIONS)
        raise ConfigError(f"trainer.precision={name} must be one of {', '.join(PRECISIONS)}{near}")
    return name


def weights_dtype(precision: str) -> torch.dtype:
    """The dtype of the weights: float32 except for a precision that ends in `-true`."""
    return _TRUE.get(precision, torch.float32)


def product_dtype(precision: str) -> torch.dtype:
    """The dtype in which the matrix products of a training step run."""
    return _MIXED.get(precision, weights_dtype(precision))


def product_format(precision: str, device: torch.device) -> Format:
    """The format of `product_dtype`; `tf32` if float32 products of a CUDA device may use it."""
    dtype = product_dtype(precision)
    tensor_cores = device.type == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return "tf32" if dtype == torch.float32 and tensor_cores else FORMATS[dtype]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a forward pass of this precision runs."""
    dtype = _MIXED.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)

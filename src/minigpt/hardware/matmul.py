"""A device's matrix-product peak, measured: what the step of a model can be compared with on any machine."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from minigpt.onednn import onednn_can, product

SIZES = {"cpu": (512, 1024), "mps": (1024, 2048), "cuda": (2048, 4096, 8192)}
"""Sides of the square matrices that are tried: large enough to fill the device, small enough not to be felt."""
SECONDS = 0.2
"""That the start of a run may take longer for it."""


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """As `fastest_product`, looked for once in a process for each kind of product."""
    key = (str(device), dtype, torch.get_num_threads(), torch.get_float32_matmul_precision())
    if key not in _measured:
        _measured[key] = fastest_product(device, dtype, SECONDS)
    return _measured[key]


_measured: dict[tuple[object, ...], float] = {}


def fastest_product(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of the fastest square matrix product of `dtype` on `device`, looked for during about so many seconds.

    On a CPU by the faster of torch's two libraries, as the model's own products are (`minigpt.onednn`). The factors
    come from a generator of their own: no random state of anybody else is touched.
    """
    sizes = SIZES.get(device.type, SIZES["cpu"])
    began = time.perf_counter()
    best = 0.0
    for number, size in enumerate(sizes, start=1):
        factors = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        ways = _ways(factors)
        for way in ways:
            _product_seconds(factors, way)  # the first call chooses a kernel and allocates
        until = began + seconds * number / len(sizes)
        while True:
            best = max(best, *(2 * size**3 / _product_seconds(factors, way) for way in ways))
            if time.perf_counter() > until:
                break
        if time.perf_counter() > began + seconds:
            break
    return best


def _ways(factors: Tensor) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """How torch can multiply the two matrices (2, N, N), to the same FLOPs."""
    if onednn_can(*factors):
        return [torch.matmul, lambda x, weight: product(x, weight, None)]
    return [torch.matmul]


def _product_seconds(factors: Tensor, way: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Seconds of the product of two matrices (2, N, N), until it is there."""
    synchronize(factors.device)
    began = time.perf_counter()
    way(*factors)
    synchronize(factors.device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    """Wait until all that `device` was given is done; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

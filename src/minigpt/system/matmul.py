"""Measure a device's peak of matrix products, to which a training step can be compared on any machine."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from minigpt.system.cpu_kernels.onednn import onednn_can, product

SIZES = {"cpu": (512, 1024), "mps": (1024, 2048), "cuda": (2048, 4096, 8192)}
"""Sizes of the square matrices: large enough to fill the device, small enough to take little time."""
SECONDS = 0.2
"""Seconds spent at the start of a run, besides the first product of each size."""
LONG = 0.01
"""Seconds of products that are timed together on an asynchronous device."""


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """`fastest_product`, measured once per process for each kind of product."""
    key = (str(device), dtype, torch.get_num_threads(), torch.get_float32_matmul_precision())
    if key not in _measured:
        _measured[key] = fastest_product(device, dtype, SECONDS)
    return _measured[key]


_measured: dict[tuple[object, ...], float] = {}


def fastest_product(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of the fastest square matrix product of `dtype` on `device`, found within about `seconds`.

    On a CPU by the faster of torch's two libraries, as in the model (`system.cpu_kernels.onednn`). The factors come
    from a separate generator: the global random state is unchanged.
    """
    best = 0.0
    sizes = SIZES.get(device.type, SIZES["cpu"])
    for size in sizes:
        generator = torch.Generator(device).manual_seed(0)
        factors = torch.randn(2, size, size, generator=generator, device=device).to(dtype)
        ways = _ways(factors)
        counts = [_enough(factors, way) for way in ways]
        until = time.perf_counter() + seconds / len(sizes)
        while True:
            for way, count in zip(ways, counts, strict=True):
                best = max(best, 2 * size**3 / _product_seconds(factors, way, count))
            if time.perf_counter() > until:
                break
    return best


def _ways(factors: Tensor) -> list[Callable[[Tensor, Tensor], Tensor]]:
    """The ways in which torch can multiply the two matrices (2, N, N)."""
    if onednn_can(*factors):
        return [torch.matmul, lambda x, weight: product(x, weight, None)]
    return [torch.matmul]


def _enough(factors: Tensor, way: Callable[[Tensor, Tensor], Tensor]) -> int:
    """The number of products that take long compared with synchronising with the device."""
    _product_seconds(factors, way, 1)  # the first call chooses a kernel and allocates
    if factors.device.type == "cpu":
        return 1
    return max(1, round(LONG / _product_seconds(factors, way, 1)))


def _product_seconds(factors: Tensor, way: Callable[[Tensor, Tensor], Tensor], count: int) -> float:
    """Mean seconds of a product of two matrices (2, N, N) over `count` consecutive ones."""
    synchronize(factors.device)
    began = time.perf_counter()
    for _ in range(count):
        way(*factors)
    synchronize(factors.device)
    return (time.perf_counter() - began) / count


def synchronize(device: torch.device) -> None:
    """Wait until `device` has finished its work; a CPU is synchronous."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

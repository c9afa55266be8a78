"""Model FLOPs utilisation: the share of a device's matrix-product peak that the training of a model makes use of.

Chowdhery et al. 2022, "PaLM", appendix B: only the FLOPs that the model needs are counted, not those that an
implementation does besides.
"""

import platform
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from minigpt.system.device_peaks import sheet_peak
from minigpt.system.matmul import measured_peak
from minigpt.system.precision import product_dtype, product_format


@dataclass(frozen=True)
class Peak:
    """What a utilisation is a share of."""

    flops: float
    """Per second, of one device."""
    source: Literal["data sheet", "measured"]


def device_name(device: torch.device) -> str:
    """What the device is called: `NVIDIA H100 80GB HBM3`, `Apple M2 Pro`; a CPU has no row in any table."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _apple_chip() if device.type == "mps" else platform.machine()


def find_peak(device: torch.device, precision: str) -> Peak:
    """The dense peak of `device` by its data sheet or, where the table lacks it, by measuring (0.2 s, once).

    `precision` is the full name of `trainer.precision`. No random state is touched.
    """
    listed = sheet_peak(device_name(device), product_format(precision, device))
    if listed is not None:
        return Peak(listed, "data sheet")
    return Peak(measured_peak(device, product_dtype(precision)), "measured")


def utilisation(flops_per_token: float, tokens_per_second: float, peak_flops: float) -> float:
    """The share, 0 to 1: FLOPs of training on one token x tokens in a second / FLOP/s of all devices together."""
    return flops_per_token * tokens_per_second / peak_flops


@lru_cache(maxsize=1)
def _apple_chip() -> str:
    try:
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return platform.machine()
    return asked.stdout.strip()

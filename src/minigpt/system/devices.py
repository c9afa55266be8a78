"""Devices: the one that a setting names, and what a device is called."""

import platform
import subprocess
from functools import lru_cache

import torch

from minigpt.errors import ConfigError


def find_device(name: str) -> torch.device:
    """Find and try out the device `name`; `auto` is CUDA, else MPS, else the CPU. Raises ConfigError if unavailable."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device={name!r} cannot be used here ({reason}); auto takes one that can") from None
    return device


def device_name(device: torch.device) -> str:
    """The product name of a device: `NVIDIA H100 80GB HBM3`, `Apple M2 Pro`; for a CPU its architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _apple_chip() if device.type == "mps" else platform.machine()


@lru_cache(maxsize=1)
def _apple_chip() -> str:
    try:
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return platform.machine()
    return asked.stdout.strip()

"""The device that a name stands for."""

import torch

from minigpt.errors import ConfigError


def find_device(name: str) -> torch.device:
    """The device called `name`, tried out; `auto` is CUDA, else MPS, else the CPU. ConfigError where it is missing."""
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

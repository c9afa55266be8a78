"""Random numbers as pure functions of a position: a hash, and the seeds of dropout. No random state is saved."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_MASK = (1 << 64) - 1


def mix(value: np.ndarray | np.uint64 | int) -> np.ndarray:
    """A well-mixed 64-bit hash of each value: the finaliser of SplitMix64 (Steele, Lea and Flood 2014, fig. 11)."""
    wide = np.uint64(value & _MASK) if isinstance(value, int) else value
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is intended
        mixed = np.asarray(wide, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def seed_dropout(seed: int, rank: int, batch: int, device: torch.device) -> None:
    """Make the random numbers of training batch `batch` on `rank` a pure function of these three.

    No random state needs saving: a resumed run drops the same units as an uninterrupted one. The generators are
    seeded directly: 1 microsecond, where torch.manual_seed takes 100.
    """
    # Chained, as rank 1 with seed 0 must not get the masks of rank 0 with seed 1.
    value = int(mix(int(mix(int(mix(seed)) + rank)) + batch))
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[
            torch.cuda.current_device() if device.index is None else device.index
        ].manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)


@contextmanager
def separate_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block the generators of Python, NumPy, torch and `device` begin at `seed`; then they are restored."""
    python, numpy_state = random.getstate(), np.random.get_state()
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(range(torch.cuda.device_count()) if device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
            if mps is not None:
                torch.mps.set_rng_state(mps)

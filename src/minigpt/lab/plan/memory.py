"""Memory of a training step in closed form, by part, and the size of a checkpoint on disk."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from minigpt.errors import ConfigError
from minigpt.lab.plan.workload import Workload
from minigpt.model.config import GPTConfig, loss_rows
from minigpt.model.gpt import meta_model
from minigpt.model.sizes import (
    activation_bytes,
    block_matrix_parameters,
    kept_logits_bytes,
    parameter_count,
    passing_logits_bytes,
)
from minigpt.optim.build import state_numbers
from minigpt.optim.config import OptimConfig
from minigpt.system.precision import product_dtype, weights_dtype
from minigpt.system.settings import refuse_spawning

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")
"""The precisions that a plan compares."""
_MOST_WINDOWS = 1 << 20
"""Where the search for the largest batch ends."""
LIBRARY_BYTES = {"cpu": 505e6, "cuda": 500e6, "mps": 500e6}
"""Memory in use before there is a model. On a CPU the whole process: Python, torch, lightning and TensorBoard, measured
by `benchmarks/plan.py`. On a GPU the context of its driver: a customary figure, not measured here."""
MAPPED_BYTES = 32 << 20
"""glibc's malloc always maps larger blocks separately (DEFAULT_MMAP_THRESHOLD_MAX, mallopt(3))."""
SLACK = {"cpu": 1.37, "cuda": 1.1, "mps": 1.1}
"""Memory of the process relative to that of its tensors. On a CPU malloc keeps freed blocks between others, measured by
`benchmarks/plan.py`; the caching allocator of a GPU rounds blocks up, not measured here."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak bytes on one device, by part."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    copies: float
    """The weights in the precision of the matrix products (mixed precision), and the gradient buckets of ddp."""
    other: float
    """Libraries and the overhead of the allocator."""

    @property
    def tensors(self) -> float:
        """Bytes of all tensors of training."""
        kinds = (self.weights, self.gradients, self.optimizer, self.activations, self.logits, self.copies)
        return sum(kinds)

    @property
    def total(self) -> float:
        """Bytes as `top`, `nvidia-smi` or /usr/bin/time report them."""
        return self.tensors + self.other


def step_memory(workload: Workload, device: str) -> Memory:
    """The memory of a training step on each device of the kind `device` (cpu, cuda, mps).

    The peak is at the start of the backward pass: all activations are there, and the gradients of the logits. The
    gradients of the weights, which appear while activations are freed, are counted in full: with accumulation they
    exist already, and without it those of the last step exist until the loss is computed.
    """
    config, windows = workload.config, workload.windows_per_device
    n_parameters = workload.n_parameters
    weight_bytes = weights_dtype(workload.precision).itemsize
    product_bytes = product_dtype(workload.precision).itemsize
    mixed = product_bytes < weight_bytes
    kept = _kept_bytes(config, windows, product_bytes, device)
    kept_logits = kept_logits_bytes(config, windows, product_bytes)
    weights = float(n_parameters * weight_bytes)
    multiplied = block_matrix_parameters(config) + config.vocab_size * config.n_embd
    parts = {
        "weights": weights,
        "gradients": weights,
        "optimizer": float(optimizer_numbers(config, workload.optim) * weight_bytes),
        "activations": float(kept - kept_logits),
        "logits": float(_logits_bytes(workload)),
        "copies": mixed * multiplied * product_bytes + STRATEGIES[workload.strategy](weights),
    }
    scattered = sum(parts.values()) - (parts["logits"] if _logits_are_mapped(workload, device) else 0)
    return Memory(**parts, other=LIBRARY_BYTES[device] + (SLACK[device] - 1) * scattered)


def _logits_are_mapped(workload: Workload, device: str) -> bool:
    """Whether a tensor of logits is so large that malloc maps it separately, and unmaps it when it is freed."""
    n_tokens = min(workload.windows_per_device * workload.config.block_size, loss_rows(workload.config.vocab_size))
    return device == "cpu" and 4 * n_tokens * workload.config.vocab_size > MAPPED_BYTES


def _logits_bytes(workload: Workload) -> int:
    """Bytes of the tensors as wide as the vocabulary, float32 as the loss is.

    A compiled loss is computed at once, with fused steps: the logits and their gradients in the precision of the
    products (an estimate, not measured).
    """
    config, windows = workload.config, workload.windows_per_device
    if workload.compiled:
        element = product_dtype(workload.precision).itemsize
        return 2 * windows * config.block_size * config.vocab_size * element
    return kept_logits_bytes(config, windows) + passing_logits_bytes(config, windows)


def largest_batch(workload: Workload, machine_kind: str, limit: float) -> int | None:
    """The largest batch, in windows, whose step fits in `limit` bytes on each device; None if not even one does."""

    def fits(per_device: int) -> bool:
        tried = replace(workload, batch_size=per_device * workload.devices)
        return step_memory(tried, machine_kind).total <= limit

    if not fits(1):
        return None
    low, high = 1, 2
    while fits(high) and high < _MOST_WINDOWS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * workload.devices


def checkpoint_bytes(workload: Workload) -> float:
    """Bytes of a checkpoint: weights and optimizer state; the rest takes about 30 KB and 20 bytes a token."""
    weight_bytes = weights_dtype(workload.precision).itemsize
    numbers = workload.n_parameters + optimizer_numbers(workload.config, workload.optim)
    return numbers * weight_bytes + 30_000 + 20 * workload.config.vocab_size


def disk_bytes(workload: Workload) -> float:
    """Bytes of all checkpoints of a run: the newest `keep` (0: all) and the best, which may be one more."""
    kept = workload.n_saves if workload.keep == 0 else min(workload.keep, workload.n_saves)
    # At the end the last one is often also the best, one file with two names; before that there are two.
    return (kept + (1 if workload.n_saves > 1 else 0)) * checkpoint_bytes(workload)


@functools.lru_cache(maxsize=64)
def optimizer_numbers(config: GPTConfig, optim: OptimConfig) -> int:
    """Numbers that the optimizer keeps, by one step of it without memory.

    A model too large for torch to build even so is given Adam's two for each parameter.
    """
    try:
        model = meta_model(config)
    except RuntimeError:  # the number of bytes of a tensor is more than 64 bits hold
        return 2 * parameter_count(config)
    return state_numbers(model, optim)


STRATEGIES: dict[str, Callable[[float], float]] = {
    "single": lambda _: 0.0,
    "ddp": lambda gradients: gradients,  # torch keeps the buckets that it sends beside the gradients
}
"""Bytes that a strategy adds on each device, given those of the gradients."""


def strategy_name(given: object, devices: int) -> str:
    """`trainer.strategy` as one of STRATEGIES; raises ConfigError for one without a closed form of its memory."""
    refuse_spawning(given)
    if given in (None, "auto"):
        return "ddp" if devices > 1 else "single"
    if str(given).startswith("ddp"):
        return "ddp"
    if str(given) == "single_device":
        return "single"
    raise ConfigError(f"trainer.strategy={given} cannot be planned: auto, single_device and ddp can")


def _kept_bytes(config: GPTConfig, windows: int, product_bytes: int, device: str) -> float:
    """`activation_bytes` on this kind of device: on a GPU fused attention keeps no weights, and masks are one byte."""
    if device == "cpu" or config.dropout == 0 or config.attention == "explicit":
        return activation_bytes(config, windows, product_bytes)
    masks = (1 + 2 * config.n_layer) * windows * config.block_size * config.n_embd
    return activation_bytes(replace(config, dropout=0.0), windows, product_bytes) + masks

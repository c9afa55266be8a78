"""The costs of a training step by operation, from torch's profiler."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from minigpt.lab.bench.contenders import PHASES, our_loop
from minigpt.lab.bench.measure import no_garbage_collection
from minigpt.lab.bench.setting import Setting
from minigpt.lab.bench.training import WARMUP
from minigpt.system.matmul import synchronize

LARGEST = 5
_MEANINGS = {
    "mm": "matrix product",
    "mkldnn::_linear_pointwise": "matrix product by oneDNN",
    "addmm": "matrix product and bias",
    "bmm": "matrix products, batched",
    "_fused_adamw_": "AdamW's update",
    "native_layer_norm": "layer norm",
    "native_layer_norm_backward": "layer norm, backward",
    "gelu": "activation",
    "gelu_backward": "activation, backward",
    "copy_": "copies: casts, transposes, device",
    "add_": "sum in place",
    "add": "sum",
    "mul": "product by elements",
    "_log_softmax": "softmax of the loss",
    "_log_softmax_backward_data": "softmax of the loss, backward",
    "embedding_dense_backward": "embedding, backward",
    "index_select": "embedding",
    "_foreach_norm": "norms of the gradient's tensors",
    "_foreach_mul_": "clipping",
    **{
        f"_scaled_dot_product_{kernel}": "attention"
        for kernel in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    },
    **{
        f"_scaled_dot_product_{kernel}_backward": "attention, backward"
        for kernel in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    },
    **{phase: f"Python between the operations: {phase}" for phase in PHASES},
}
"""The meaning of torch's operations in a training step."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One operation, summed over its calls."""

    name: str
    meaning: str
    calls: float
    """Calls per step."""
    seconds: float
    """Self time per step."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One training step, averaged over several."""

    costs: list[Cost]
    """All operations, the most expensive first."""
    seconds: float
    """Seconds of a step under the profiler."""
    plain_seconds: float
    """Seconds of a step without it."""


def profile_step(setting: Setting, steps: int) -> Profile:
    """Profile `steps` steps of the bare loop. On a GPU the costs are those of its kernels."""
    loop, device = our_loop(setting), setting.device
    loop.run(WARMUP)
    plain = _timed(lambda: loop.run(steps), device) / steps
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiled:
        seconds = _timed(lambda: loop.run(steps), device) / steps
    time_of = _device_time if cuda else _host_time
    costs = [
        Cost(name=name, meaning=_MEANINGS.get(name, ""), calls=event.count / steps, seconds=time_of(event) / steps)
        for event in profiled.key_averages()
        if event.device_type == DeviceType.CPU and (name := event.key.removeprefix("aten::"))
    ]
    costs.sort(key=lambda cost: cost.seconds, reverse=True)
    return Profile(costs=costs, seconds=seconds, plain_seconds=plain)


def _timed(work: Any, device: torch.device) -> float:
    with no_garbage_collection():
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - began


def _host_time(event: Any) -> float:
    """Self time on the CPU in seconds."""
    return float(event.self_cpu_time_total) * 1e-6


def _device_time(event: Any) -> float:
    """Time of the kernels that the operation itself launched, in seconds."""
    return float(event.self_device_time_total) * 1e-6

"""Memory of a training step: what persists between steps, and what is allocated within one."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from minigpt.lab.bench.contenders import BareLoop


def step_bytes(loop: BareLoop) -> int:
    """Peak bytes of the tensors in a step of `loop`: weights, gradients, optimizer state and activations.

    On a CPU only torch's allocations are counted, not those of the libraries below it.
    """
    loop.run(1)  # allocates gradients and optimizer state
    return resident_bytes(loop) + working_bytes(loop)


def resident_bytes(loop: BareLoop) -> int:
    """Bytes of weights, gradients and optimizer state, counting each storage once."""
    tensors = [*loop.model.parameters(), *loop.model.buffers()]
    tensors += [weight.grad for weight in loop.model.parameters() if weight.grad is not None]
    for state in loop.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def working_bytes(loop: BareLoop) -> int:
    """Peak bytes allocated within one step, above those before it."""
    return peak_bytes(lambda: loop.run(1), loop.setting.device)


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Peak bytes on `device` that `work` allocates, above those before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    return highest_level(_allocations(profiled))


def highest_level(changes: Iterator[int]) -> int:
    """The maximum of the running sum of `changes`, at least 0."""
    level = highest = 0
    for change in changes:
        level += change
        highest = max(highest, level)
    return highest


def _allocations(profiled: profile) -> Iterator[int]:
    """Bytes of each allocation (positive) and release (negative), in order of time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    memory = [event for event in events if event.get("name") == "[memory]"]
    for event in sorted(memory, key=lambda event: event["ts"]):
        yield int(event["args"]["Bytes"])

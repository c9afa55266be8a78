"""Time of a batch: measured on this machine, or estimated as a share of the dense peak of a data sheet."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.nn.utils import clip_grad_norm_

from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.lab.plan.machine import Machine
from minigpt.lab.plan.memory import largest_batch, step_memory
from minigpt.lab.plan.workload import Workload
from minigpt.model.gpt import GPT
from minigpt.model.sizes import flops_per_token
from minigpt.optim.build import build_optimizer
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.matmul import measured_peak, synchronize
from minigpt.system.precision import FORMATS, autocast, product_dtype, weights_dtype
from minigpt.system.units import speed_text
from minigpt.system.utilisation import data_sheet, sheet_peak

LISTED_UTILISATION = 0.35
"""Share of a GPU's dense peak that is assumed if nothing was measured: good training code reaches 0.3 to 0.5 at this
size (MFU of nanoGPT's 124M on A100: 0.3 to 0.4); a model much narrower than 768 reaches less."""
HERE_UTILISATION = 0.5
"""Share of this machine's measured peak that is assumed if a single window takes too long to be timed."""
TRAINER_SECONDS = 0.5e-3
"""Overhead of the Trainer per step: `benchmarks/results/step.md`, 19.8 ms against 19.3 ms."""
_NEAREST = ("16-mixed", "bf16-mixed", "32-true")
"""Alternatives to a precision that a device lacks; the first that it has is suggested."""
_SECONDS = 2.5
"""Seconds spent on timing training steps, after the first one."""
_LONGEST = 1.5
"""Seconds that one timed batch may take; for a slower one fewer windows are timed."""
_DECODED = 24
"""Tokens sampled to time sampling."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds of each part of a run, on all devices together."""

    batch: float
    """Forward and backward pass of one batch."""
    update: float
    """The optimizer's step."""
    evaluation_batch: float
    """Forward pass of one batch."""
    sampled_token: float
    peak: float
    """FLOP/s of one device; of a CPU, of all its cores."""
    is_measured: bool
    """Whether a batch of this model was timed."""
    source: str
    """Where the numbers come from, as a phrase."""


def find_speed(workload: Workload, machine: Machine, utilisation: float | None = None) -> Speed:
    """Time a batch if `machine` is here and `utilisation` is not given; else assume that share of the dense peak.

    Raises ConfigError if the data sheet has no rate for the precision.
    """
    if not machine.is_here:
        return assumed_speed(workload, machine, listed_peak(machine, workload.precision), utilisation)
    device = torch.device(machine.kind)
    peak = measured_peak(device, product_dtype(workload.precision))
    flops = flops_per_token(workload.config) * workload.config.block_size
    too_large = step_memory(replace(workload, batch_size=1, devices=1), machine.kind).total > machine.bytes_per_device
    if utilisation is not None or too_large or flops / (HERE_UTILISATION * peak) > _LONGEST:
        return assumed_speed(workload, machine, peak, utilisation or HERE_UTILISATION, "the measured peak")
    seconds = flops * workload.windows_per_device / (HERE_UTILISATION * peak)
    fit = largest_batch(replace(workload, devices=1), machine.kind, machine.bytes_per_device) or 1
    windows = max(1, min(workload.windows_per_device, fit, int(workload.windows_per_device * _LONGEST / seconds)))
    return _timed_speed(workload, machine, peak, windows)


def listed_peak(machine: Machine, precision: str) -> float:
    """FLOP/s of dense matrix products at this precision by the data sheet; raises ConfigError if it has none."""
    # Float32 products run on tensor cores only if TF32 is enabled; the listed rate is that without.
    peak = sheet_peak(machine.name, FORMATS[product_dtype(precision)])
    if peak is None:
        sheet = data_sheet(machine.name)
        known = [other for other in _NEAREST if sheet and FORMATS[product_dtype(other)] in sheet.tflops]
        hint = f"--trainer.precision {known[0]}" if known else "another device"
        raise ConfigError(
            f"trainer.precision={precision}: {machine.name} has no such products by its data sheet: {hint}"
        )
    return peak


def assumed_speed(
    workload: Workload, machine: Machine, peak: float, utilisation: float | None, of: str = "the dense peak"
) -> Speed:
    """The speed of training at a share of the peak; a forward pass takes a third of a step."""
    share = LISTED_UTILISATION if utilisation is None else utilisation
    batch = workload.tokens_per_batch * flops_per_token(workload.config) / (share * peak * machine.at_once)
    return Speed(
        batch=batch,
        update=0.0,
        evaluation_batch=batch / 3,
        sampled_token=2e-3,
        peak=peak,
        is_measured=False,
        source=f"{share:.0%} of {of} of {machine.name}, {speed_text(peak)}",
    )


def _timed_speed(workload: Workload, machine: Machine, peak: float, windows: int) -> Speed:
    """Train the model on random tokens for about two seconds; the global random state is restored."""
    device = torch.device(machine.kind)
    config = workload.config
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model = use_cpu_kernels(GPT(config).to(device, weights_dtype(workload.precision)).train())
        tokens = torch.randint(config.vocab_size, (windows, config.block_size), device=device)
        optimizer = build_optimizer(model, workload.optim, fused=workload.precision != "16-mixed")

        def batch() -> None:
            optimizer.zero_grad()
            with autocast(workload.precision, device):
                loss = model.loss(tokens, tokens)
            loss.backward()

        def update() -> None:
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        @torch.no_grad()
        def evaluate() -> None:
            with autocast(workload.precision, device):
                model.loss(tokens, tokens, reduction="none")

        batch_seconds, update_seconds = _median_times([batch, update], device, _SECONDS)
        model.eval()  # without dropout, like validation and sampling
        (evaluation_seconds,) = _median_times([evaluate], device, _SECONDS / 4)
        token_seconds = _sampling_seconds(model, device)
    parts = workload.windows_per_device / windows
    turns = machine.devices // machine.at_once  # processes on a CPU take turns on its cores
    few = "" if windows == workload.windows_per_device else f", with {windows} of {workload.windows_per_device} windows"
    # torch.compile would take longer than the rest of the plan.
    plain = ", without run.compile, which makes a step shorter and the first one longer" if workload.compiled else ""
    return Speed(
        batch=batch_seconds * parts * turns,
        update=update_seconds * turns,
        evaluation_batch=evaluation_seconds * parts * turns,
        sampled_token=token_seconds,
        peak=peak,
        is_measured=True,
        source=f"measured: this model, timed for {_SECONDS:g} s on {machine.name}{few}{plain}",
    )


def _median_times(parts: list[Callable[[], None]], device: torch.device, seconds: float) -> list[float]:
    """Median time of each of `parts`, run in turn for about so many seconds; their first run is not counted."""
    for part in parts:
        part()
    times: list[list[float]] = [[] for _ in parts]
    until = time.perf_counter() + seconds
    while not times[0] or time.perf_counter() < until:
        for part, taken in zip(parts, times, strict=True):
            synchronize(device)
            began = time.perf_counter()
            part()
            synchronize(device)
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def _sampling_seconds(model: GPT, device: torch.device) -> float:
    """Seconds per sampled token."""
    prompt = torch.zeros(1, 1, dtype=torch.long, device=device)
    stream = generate_tokens(model, prompt, SamplingOptions(max_new_tokens=_DECODED, seed=0), model.config.vocab_size)
    next(stream)
    began = time.perf_counter()
    count = sum(1 for _ in stream)
    return (time.perf_counter() - began) / max(1, count)

"""Recommend a model and a number of tokens for a budget, by a law, as settings of a config."""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from minigpt.errors import ConfigError
from minigpt.lab.scaling.fits import Fit
from minigpt.lab.scaling.isoflop import Frontier
from minigpt.lab.scaling.law import Interval
from minigpt.lab.scaling.runs import ScalingRun
from minigpt.lab.sweep.record import is_sweep
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.runs.paths import CONFIG
from minigpt.system.units import count_text, flops_text, times_text

WIDE = 4.0
"""high / low of an interval beyond which a recommendation is unreliable."""
FAR = 10.0
"""Multiple of the largest budget of the runs beyond which a law is extrapolated far."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The best use of a budget according to the law."""

    flops: float
    n_parameters: float
    interval: Interval
    n_tokens: float
    loss: float
    loss_interval: Interval
    by_parabolas: float | None
    """The best size according to the isoFLOP parabolas."""
    config: GPTConfig
    """The nearest model with the proportions of the runs."""
    max_steps: int
    """Steps, with the batches of the runs, that spend the budget on `config`."""
    base: Path
    """config.yaml of the run with the nearest budget; `settings` are the changes to it."""
    settings: dict[str, Any]
    """Changes to `base`, by dotted key, that train `config` for `max_steps`."""
    warnings: tuple[str, ...]


def advise(fit: Fit, line: Frontier | None, runs: list[ScalingRun], flops: float) -> Advice:
    """Recommend what to train for a budget of `flops`."""
    n_parameters, n_tokens = fit.optimum(flops)
    interval = fit.optimum_interval(flops)
    # The run with the nearest budget is the template for model and batch.
    model = min(runs, key=lambda run: abs(math.log(run.point.flops / flops)))
    config = nearest_model(model.config, n_parameters, [run.config for run in runs])
    steps = max(1, round(flops / flops_per_token(config) / model.tokens_per_step))
    return Advice(
        flops=flops,
        n_parameters=n_parameters,
        interval=interval,
        n_tokens=n_tokens,
        loss=fit.law.loss(n_parameters, n_tokens),
        loss_interval=fit.loss_interval(n_parameters, n_tokens),
        by_parabolas=line.parameters(flops) if line else None,
        config=config,
        max_steps=steps,
        base=model.folder / CONFIG,
        settings=_settings(model, config, steps, f"best-{flops_text(flops)}"),
        warnings=tuple(_warnings(interval, n_parameters, line, runs, flops)),
    )


def _settings(model: ScalingRun, config: GPTConfig, steps: int, name: str) -> dict[str, Any]:
    """The changes to the run `model`; the warm-up keeps its share of the steps.

    The run is put beside the sweep, not among its cells, where the next law would include it.
    """
    root = model.folder.parent
    while is_sweep(root):
        root = root.parent
    names = [field.name for field in fields(config) if getattr(config, field.name) != getattr(model.config, field.name)]
    return {
        "run.root": str(root),
        "run.name": name,
        **{f"model.{name}": getattr(config, name) for name in names},
        "optim.warmup_steps": round(model.warmup_steps * steps / model.max_steps),
        "trainer.max_steps": steps,
    }


def speed_of(runs: list[ScalingRun]) -> float | None:
    """Median FLOP/s of the larger half of the runs; None if it was not recorded."""
    known = sorted((run.point.n_parameters, run.flops_per_second) for run in runs if run.flops_per_second)
    larger = [speed for _, speed in known[len(known) // 2 :] if speed]
    return sorted(larger)[len(larger) // 2] if larger else None


def nearest_model(model: GPTConfig, n_parameters: float, like: list[GPTConfig]) -> GPTConfig:
    """The model with the nearest number of parameters and a ratio of width to depth as in `like`."""
    shapes = [config.n_embd / config.n_layer for config in like if config.n_layer]
    low, high = min(shapes, default=1.0), max(shapes, default=1e9)
    middle = math.sqrt(low * high)
    found: list[tuple[float, float, GPTConfig]] = []
    for n_layer in range(1, 129):
        for n_embd in _widths(model, n_layer, n_parameters):
            if not 0.99 * low <= n_embd / n_layer <= 1.01 * high:
                continue
            try:
                config = replace(model, n_layer=n_layer, n_embd=n_embd, n_ff=None)
            except ConfigError:
                continue
            off = abs(math.log(parameter_count(config) / n_parameters))
            found.append((max(off, 0.03), abs(math.log(n_embd / n_layer / middle)), config))
    return min(found, key=lambda each: each[:2])[2] if found else model


def _widths(model: GPTConfig, n_layer: int, n_parameters: float) -> list[int]:
    """The widths just below and above that many parameters, in steps of two channels per head."""
    step = 2 * model.n_head
    low, high = 1, 2
    while _size(model, n_layer, step * high) < n_parameters and high < 1 << 14:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _size(model, n_layer, step * middle) < n_parameters else (low, middle)
    return [step * low, step * high]


def _size(model: GPTConfig, n_layer: int, n_embd: int) -> int:
    return parameter_count(replace(model, n_layer=n_layer, n_embd=n_embd, n_ff=None))


def _warnings(
    interval: Interval, n_parameters: float, line: Frontier | None, runs: list[ScalingRun], flops: float
) -> list[str]:
    """Reasons why the recommendation may be wrong."""
    found = []
    if not interval.ratio() < WIDE:
        found.append(
            f"the interval of the best size is wide, {times_text(interval.ratio())} times from end to end: more "
            f"runs, or more different ones, would narrow it"
        )
    largest = max(run.point.flops for run in runs)
    if flops > FAR * largest:
        found.append(
            f"{flops_text(flops)} FLOPs are {times_text(flops / largest)} times those of the largest run: laws "
            "extrapolated that far have often been wrong"
        )
    if line is not None and not 0.5 < line.parameters(flops) / n_parameters < 2:
        found.append(
            f"the parabolas say {count_text(line.parameters(flops))} parameters, and the law "
            f"{count_text(n_parameters)}: the runs do not decide between them"
        )
    return found

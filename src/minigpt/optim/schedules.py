"""Learning-rate schedules: pure functions of the optimizer step, so that a resumed run needs no saved state."""

import functools
import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from minigpt.errors import ConfigError, shown
from minigpt.optim.config import OptimConfig, ScheduleName
from minigpt.system.components import error_line, import_component

Schedule = Callable[[int, int, OptimConfig], float]
"""(step, steps of the run, settings) -> learning rate. Step 0 is the first update."""


def decay(shape: Callable[[float, OptimConfig], float]) -> Schedule:
    """A schedule of linear warm-up and then the decay `shape`: progress (0 after the warm-up, 1 at the last step) ->
    share of the way from `min_lr` (0) to `lr` (1).

    During the warm-up `lr * (step + 1) / warmup_steps`: never 0, for an update with a rate of 0 is a batch wasted.
    After it, `min_lr + share * (lr - min_lr)`. The last update (`step = max_steps - 1`) runs at `min_lr` exactly, if
    two or more follow the warm-up; a step beyond the horizon stays there.
    """

    def rate(step: int, max_steps: int, config: OptimConfig) -> float:
        if step < config.warmup_steps:
            return config.lr * (step + 1) / config.warmup_steps
        span = max(1, max_steps - 1 - config.warmup_steps)
        progress = min(1.0, (step - config.warmup_steps) / span)
        return config.min_lr + shape(progress, config) * (config.lr - config.min_lr)

    return rate


def constant(progress: float, config: OptimConfig) -> float:
    """Stay at the peak."""
    return 1.0


def linear(progress: float, config: OptimConfig) -> float:
    """Fall in a straight line from the peak to the end."""
    return 1.0 - progress


def cosine(progress: float, config: OptimConfig) -> float:
    """Half a cosine from the peak to the end (Loshchilov and Hutter 2017, SGDR, eq. 5, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def wsd(progress: float, config: OptimConfig) -> float:
    """Warm-up, stable, decay (Hu et al. 2024, MiniCPM, sec. 4): the peak, then a line over the last
    `decay_fraction`."""
    return min(1.0, (1.0 - progress) / config.decay_fraction)


SCHEDULES: dict[ScheduleName, Schedule] = {
    "constant": decay(constant),
    "linear": decay(linear),
    "cosine": decay(cosine),
    "wsd": decay(wsd),
}


def custom(name: str) -> Schedule:
    """The schedule of the user's own function by its dotted name: (step, steps of the run, settings) -> factor of `lr`.

    The function does its own warm-up. Raises ConfigError, one line, for one that cannot be imported; the schedule
    raises it for a function that fails, or whose factor is negative or not finite.
    """
    module = name.rpartition(".")[0]
    if module not in sys.modules:
        import_component("optim.schedule", name)
    return _custom(name, sys.modules[module])


@functools.lru_cache(maxsize=8)  # it is asked every step; another file of the same name is another module
def _custom(name: str, _module: ModuleType) -> Schedule:
    key = f"optim.schedule={name}"
    function = import_component("optim.schedule", name)
    if not callable(function):
        raise ConfigError(f"{key} must be a function of (step, steps of the run, settings): it is {shown(function)}")

    def rate(step: int, max_steps: int, config: OptimConfig) -> float:
        try:
            factor: Any = function(step, max_steps, config)
            good = 0 <= factor < math.inf
        except Exception as error:  # the user's function may raise anything
            raise ConfigError(f"{key}: {error_line(error)}") from error
        if not good:
            raise ConfigError(f"{key} must give a finite factor of optim.lr, 0 or more: step {step} gave {factor}")
        return config.lr * float(factor)

    return rate


def learning_rate(step: int, max_steps: int, config: OptimConfig) -> float:
    """The learning rate of the update number `step` (0 is the first) of a run of `max_steps`."""
    schedule = SCHEDULES.get(config.schedule) or custom(config.schedule)  # type: ignore[call-overload]
    rate: float = schedule(step, max_steps, config)
    return rate

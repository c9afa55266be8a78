"""Learning-rate schedules: pure functions of the optimizer step, so that a resumed run needs no saved state."""

import math
from collections.abc import Callable

from minigpt.optim.config import OptimConfig, ScheduleName


def constant(progress: float, decay_fraction: float) -> float:
    """Stay at the peak."""
    return 1.0


def linear(progress: float, decay_fraction: float) -> float:
    """Fall in a straight line from the peak to the end."""
    return 1.0 - progress


def cosine(progress: float, decay_fraction: float) -> float:
    """Half a cosine from the peak to the end (Loshchilov and Hutter 2017, SGDR, eq. 5, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def wsd(progress: float, decay_fraction: float) -> float:
    """Warm-up, stable, decay (Hu et al. 2024, MiniCPM, sec. 4): the peak, then a line over the last
    `decay_fraction`."""
    return min(1.0, (1.0 - progress) / decay_fraction)


SCHEDULES: dict[ScheduleName, Callable[[float, float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "wsd": wsd,
}
"""Each takes the progress after the warm-up (0 at its end, 1 at the last step) and gives the share of the way from
`min_lr` (0) to `lr` (1)."""


def learning_rate(step: int, max_steps: int, config: OptimConfig) -> float:
    """The learning rate of the update number `step` (0 is the first) of a run of `max_steps`.

    During the warm-up `lr * (step + 1) / warmup_steps`: never 0, for an update with a rate of 0 is a batch wasted.
    After it, `min_lr + share * (lr - min_lr)`. The last update (`step = max_steps - 1`) runs at `min_lr` exactly, if
    two or more follow the warm-up; a step beyond the horizon stays there.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    span = max(1, max_steps - 1 - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / span)
    share = SCHEDULES[config.schedule](progress, config.decay_fraction)
    return config.min_lr + share * (config.lr - config.min_lr)


def muon_momentum(step: int, config: OptimConfig) -> float:
    """Muon's momentum in the update number `step`: a line from `muon_momentum_start` over the warm-up, then constant.

    While the gradients still turn quickly a long memory points to where they were (after Jordan et al. 2024,
    "modded-nanogpt").
    """
    if step >= config.muon_momentum_warmup:
        return config.muon_momentum
    share = step / config.muon_momentum_warmup
    return config.muon_momentum_start + share * (config.muon_momentum - config.muon_momentum_start)

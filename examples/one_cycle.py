"""A schedule of the learning rate: one cycle (Smith and Topin 2018, "Super-Convergence", section 3).

cd examples && minigpt fit --config base --optim.schedule one_cycle.one_cycle --optim.lr 6e-3
"""

import math

from minigpt.optim.config import OptimConfig

RISE = 0.3
"""Share of the run in which the rate rises."""
START = 1 / 25
"""Factor of `optim.lr` at the first step."""


def one_cycle(step: int, max_steps: int, settings: OptimConfig) -> float:
    """The factor of `optim.lr` at update number `step` of `max_steps`; it ends at `optim.min_lr`.

    A pure function of the step, so a resumed run needs no saved state. It does its own warm-up.
    """
    progress = step / max(1, max_steps - 1)
    if progress < RISE:
        return START + (1 - START) * _half_cosine(progress / RISE)
    end = settings.min_lr / settings.lr
    return 1 - (1 - end) * _half_cosine((progress - RISE) / (1 - RISE))


def _half_cosine(share: float) -> float:
    """From 0 to 1, flat at both ends."""
    return 0.5 * (1 - math.cos(math.pi * share))

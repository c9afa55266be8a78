"""An optimizer: Lion, whose update is the sign of a momentum (Chen et al. 2023, "Symbolic Discovery of Optimization
Algorithms", algorithm 2).

    cd examples && minigpt fit --config base --optim.name lion.Lion --optim.lr 3e-4 --optim.min_lr 3e-5 \
        --optim.options '{betas: [0.9, 0.99]}'
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    """Every weight moves by the learning rate in each step; the weights decay as in AdamW."""

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update. Lightning computes the gradients in `closure`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:  # the step was left out: nothing may move
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(torch.lerp(parameter.grad, momentum, first).sign_(), alpha=group["lr"])
                momentum.lerp_(parameter.grad, 1 - second)
        return loss

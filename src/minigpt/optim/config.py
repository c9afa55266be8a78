"""The optimizer's settings."""

from dataclasses import dataclass
from typing import Literal, get_args

from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.settings import refuse_without_effect

OptimizerName = Literal["adamw", "muon"]
ScheduleName = Literal["constant", "linear", "cosine", "wsd"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer and its rate over the steps. One step is one update of the weights, whatever the accumulation."""

    name: OptimizerName = "adamw"
    """adamw for everything, or muon for the matrices of the blocks and adamw for embeddings, output, norms, biases."""
    lr: float = 3e-3
    """Peak learning rate, reached after the warm-up."""
    schedule: ScheduleName = "cosine"
    """Learning rate after the warm-up: constant, linear or cosine decay to min_lr over the whole run, or wsd
    (stable, then decay)."""
    min_lr: float = 3e-4
    """Learning rate at the last step (ignored by, and refused with, the constant schedule unless left alone)."""
    warmup_steps: int = 100
    """Steps of linear warm-up from lr / warmup_steps to lr."""
    decay_fraction: float = 0.2
    """The last part of the run over which wsd decays."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of AdamW's averages of the gradient and of its square."""
    eps: float = 1e-8
    """Added to the denominator of AdamW's update."""
    muon_lr: float = 0.02
    """muon only: peak learning rate of the matrices; it follows the same schedule."""
    muon_momentum: float = 0.95
    """muon only: decay rate of its average of the gradient."""
    muon_momentum_warmup: int = 0
    """muon only: steps over which muon_momentum is reached from muon_momentum_start; early gradients age fast."""
    muon_momentum_start: float = 0.85
    """muon only: momentum of the first step, where there is such a warm-up."""
    weight_decay: float = 0.1
    """Decoupled weight decay on matrices and embeddings; biases and gains of norms never decay."""

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError with the value and the rule."""
        for name, choices in {"name": get_args(OptimizerName), "schedule": get_args(ScheduleName)}.items():
            value = getattr(self, name)
            if value not in choices:
                near = did_you_mean(str(value), choices)
                raise ConfigError(f"optim.{name}={value} must be one of {', '.join(choices)}{near}")
        rules = [
            ("lr", self.lr > 0, "be more than 0"),
            ("min_lr", self.min_lr >= 0, "not be negative"),
            ("warmup_steps", 0 <= self.warmup_steps < 2**63, "lie between 0 and 2^63 - 1"),
            ("decay_fraction", 0 < self.decay_fraction <= 1, "lie in (0, 1]"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "lie in [0, 1)"),
            ("eps", self.eps > 0, "be more than 0"),
            ("muon_lr", self.muon_lr > 0, "be more than 0"),
            ("muon_momentum", 0 <= self.muon_momentum < 1, "lie in [0, 1)"),
            ("muon_momentum_warmup", 0 <= self.muon_momentum_warmup < 2**63, "lie between 0 and 2^63 - 1"),
            ("muon_momentum_start", 0 <= self.muon_momentum_start < 1, "lie in [0, 1)"),
            ("weight_decay", self.weight_decay >= 0, "not be negative"),
        ]
        for name, holds, rule in rules:
            if not holds:  # also catches nan, for which every comparison is false
                raise ConfigError(f"optim.{name}={getattr(self, name)} must {rule}")
        if self.schedule != "constant" and self.min_lr > self.lr:
            raise ConfigError(
                f"optim.min_lr={self.min_lr} must not be more than optim.lr={self.lr}, from which it decays"
            )
        refuse_without_effect(self, "optim.", "min_lr", "schedule", ("linear", "cosine", "wsd"))
        refuse_without_effect(self, "optim.", "decay_fraction", "schedule", ("wsd",))
        refuse_without_effect(self, "optim.", "muon_lr", "name", ("muon",))
        refuse_without_effect(self, "optim.", "muon_momentum", "name", ("muon",))
        refuse_without_effect(self, "optim.", "muon_momentum_warmup", "name", ("muon",))
        if self.muon_momentum_warmup == 0 and self.muon_momentum_start != type(self).muon_momentum_start:
            raise ConfigError(
                f"optim.muon_momentum_start={self.muon_momentum_start} has no effect without muon_momentum_warmup"
            )

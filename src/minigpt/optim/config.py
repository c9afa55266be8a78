"""The settings of optimizer and schedule, flat as in the YAML; no torch."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from minigpt.errors import ConfigError
from minigpt.system.components import check_choice, is_dotted
from minigpt.system.settings import refuse_without_effect

OptimizerName = Literal["adamw", "muon"]
ScheduleName = Literal["constant", "linear", "cosine", "wsd"]

OWN_SETTINGS: dict[str, tuple[str, ...]] = {
    "adamw": ("betas", "eps"),
    "muon": ("betas", "eps", "muon_lr", "muon_momentum", "muon_momentum_warmup"),
}
"""The settings that each built-in optimizer reads beside those that all of them read."""
_ALL_OWN = tuple(dict.fromkeys(name for names in OWN_SETTINGS.values() for name in names))
_SET_BY_US = {"params": "the model", "lr": "optim.lr", "weight_decay": "optim.weight_decay"}


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer and its learning rate. One step is one update of the weights, whatever the accumulation."""

    name: OptimizerName | str = "adamw"
    """adamw for everything, muon for the matrices of the blocks and adamw for the rest, or any torch.optim.Optimizer by
    its dotted name: torch.optim.Adagrad, my_file.Name."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Further arguments of an optimizer given by its dotted name: {lr_decay: 0.01}."""
    lr: float = 3e-3
    """Peak learning rate, reached after the warm-up."""
    schedule: ScheduleName | str = "cosine"
    """Learning rate after the warm-up: constant, linear or cosine decay to min_lr over the whole run, wsd (stable, then
    decay), or your own function of (step, steps of the run, settings) as my_file.name, which gives a factor of lr."""
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
    """Weight decay of matrices and embeddings (decoupled in adamw and muon); biases and gains of norms never decay."""

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError with the value and the rule."""
        check_choice("optim.name", self.name, get_args(OptimizerName))
        check_choice("optim.schedule", self.schedule, get_args(ScheduleName), kind="function")
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
        if not is_dotted(self.schedule):  # a function of the user's own may read any of them
            self._check_schedule()
        self._check_own_settings()

    def _check_schedule(self) -> None:
        if self.schedule != "constant" and self.min_lr > self.lr:
            raise ConfigError(
                f"optim.min_lr={self.min_lr} must not be more than optim.lr={self.lr}, from which it decays"
            )
        refuse_without_effect(self, "optim.", "min_lr", "schedule", ("linear", "cosine", "wsd"))
        refuse_without_effect(self, "optim.", "decay_fraction", "schedule", ("wsd",))

    def _check_own_settings(self) -> None:
        """Refuse what the optimizer would ignore."""
        custom = is_dotted(self.name)
        for name in _ALL_OWN:
            if custom and getattr(self, name) != getattr(type(self), name):
                raise ConfigError(
                    f"optim.{name}={getattr(self, name)} has no effect with optim.name={self.name}: arguments of its "
                    "own go into optim.options"
                )
            if not custom:
                readers = [reader for reader, names in OWN_SETTINGS.items() if name in names]
                refuse_without_effect(self, "optim.", name, "name", readers)
        if self.muon_momentum_warmup == 0 and self.muon_momentum_start != type(self).muon_momentum_start:
            raise ConfigError(
                f"optim.muon_momentum_start={self.muon_momentum_start} has no effect without muon_momentum_warmup"
            )
        if not isinstance(self.options, dict):
            raise ConfigError(f"optim.options={self.options} must be a mapping of arguments: {{lr_decay: 0.01}}")
        if self.options and not custom:
            raise ConfigError(
                f"optim.options={self.options} has no effect with optim.name={self.name}: leave it out, or name an "
                "optimizer by a dotted name, as torch.optim.Adagrad"
            )
        for name in self.options:
            if name in _SET_BY_US:
                raise ConfigError(f"optim.options.{name} is not set by hand: {_SET_BY_US[name]} sets it")

    def for_optimizer(self, name: OptimizerName) -> "OptimConfig":
        """These settings for another built-in optimizer: what it would ignore goes back to its default."""
        if name == self.name:
            return self
        kept = {*OWN_SETTINGS[name], *(each.name for each in fields(self) if not _is_own(each.name))}
        return replace(OptimConfig(), **{key: getattr(self, key) for key in kept - {"options"}} | {"name": name})


def _is_own(name: str) -> bool:
    return name in _ALL_OWN or name == "muon_momentum_start"

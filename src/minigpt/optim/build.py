"""Build the optimizer that the config names, and set what changes with the step."""

from functools import partial
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from minigpt.errors import ConfigError
from minigpt.optim import adamw, custom, muon
from minigpt.optim.config import OptimConfig, OptimizerName
from minigpt.optim.groups import Groups
from minigpt.optim.schedules import learning_rate
from minigpt.optim.state import checked_state, expected_state, numbers_of
from minigpt.system.components import error_line


class OptimizerKind(Protocol):
    """What the file of an optimizer holds: functions of these names."""

    def groups(self, model: nn.Module, config: OptimConfig) -> Groups:
        """The parameters of `model` by group, with the settings that differ from group to group."""

    def build(self, groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
        """The optimizer; `fused=False` takes what runs on every device."""

    def at_step(self, group: dict[str, Any], config: OptimConfig, step: int, rate: float) -> dict[str, Any]:
        """The settings of a group in the update number `step`, where the schedule gives the learning rate `rate`."""


OPTIMIZERS: dict[OptimizerName, OptimizerKind] = {"adamw": adamw, "muon": muon}


def kind_of(name: str) -> OptimizerKind:
    """The file of a built-in optimizer, or that of any optimizer by its dotted name."""
    return OPTIMIZERS.get(name, custom)  # type: ignore[call-overload]


def build_optimizer(model: nn.Module, config: OptimConfig, *, fused: bool = True) -> Optimizer:
    """The optimizer that `config.name` names, over all of `model`.

    `fused=True` updates AdamW's parameters in one kernel, where the device has one (CUDA, CPU, MPS). It must be off
    under fp16 with gradient clipping: the fused kernel would unscale the gradients after they were clipped.

    Loading a state into it keeps the settings of `config`, and raises CheckpointError where the state is not that of
    these parameters.
    """
    kind = kind_of(config.name)
    optimizer = kind.build(kind.groups(model, config), config, fused)
    estimates = [] if config.name in OPTIMIZERS else custom.own_estimates(optimizer, config)
    set_learning_rate(optimizer, config, config.lr)
    build = partial(kind.build, config=config, fused=False)
    optimizer.register_load_state_dict_pre_hook(partial(checked_state, build=build, estimates=estimates))
    return optimizer


def check_optimizer(config: OptimConfig, max_steps: int, *, fused: bool = True) -> None:
    """Raise ConfigError, one line, for an optimizer or a schedule of the user's own that cannot train `max_steps`."""
    if config.name not in OPTIMIZERS:
        custom.check(config, fused)
    for step in (0, max_steps - 1):
        learning_rate(step, max_steps, config)


def set_for_step(optimizer: Optimizer, config: OptimConfig, step: int, max_steps: int) -> None:
    """Set all that is a function of the update's number: the learning rates, and Muon's momentum."""
    set_learning_rate(optimizer, config, learning_rate(step, max_steps, config), step)


def set_learning_rate(optimizer: Optimizer, config: OptimConfig, rate: float, step: int = 0) -> None:
    """Set the learning rates to `rate`, which peaks at `config.lr`, and the rest as in the update number `step`."""
    kind = kind_of(config.name)
    for group in optimizer.param_groups:
        group.update(kind.at_step(group, config, step, rate))


def skips_on_device(optimizer: Optimizer) -> bool:
    """Whether a step changes nothing where the optimizer's `found_inf` is 1, without the host having to know."""
    return isinstance(optimizer, muon.Muon) or bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def state_numbers(model: nn.Module, config: OptimConfig) -> int:
    """Count the numbers that the optimizer keeps for `model`, which may lie on the meta device; without counters.

    Raises ConfigError, one line, for an optimizer of the user's own that cannot make a step.
    """
    build = partial(kind_of(config.name).build, config=config, fused=False)
    optimizer = build_optimizer(model, config, fused=False)
    try:
        return numbers_of(expected_state(optimizer, build))
    except Exception as error:  # the user's optimizer may raise anything
        raise ConfigError(f"optim.name={config.name}: {error_line(error)}") from error

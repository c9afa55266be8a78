"""Any torch.optim.Optimizer by its dotted name, torch's own or the user's: `optim.name: torch.optim.Adagrad`."""

import inspect

import torch
from torch import nn
from torch.optim import Optimizer

from minigpt.errors import ConfigError, did_you_mean, shown
from minigpt.optim import adamw
from minigpt.optim.config import OptimConfig
from minigpt.optim.groups import Groups, parameter_groups
from minigpt.system.components import error_line, import_component

groups, at_step = adamw.groups, adamw.at_step

ON_A_DEVICE = ("fused", "foreach", "capturable")
"""Arguments of torch's optimizers that choose an implementation which not every device has."""


def build(groups: Groups, config: OptimConfig, fused: bool) -> Optimizer:
    """The optimizer over `groups`, with `optim.lr` and `optim.options`; `fused=False` takes torch's plainest loop.

    Raises ConfigError, one line, for a name that is no optimizer and for arguments that it does not take.
    """
    key = f"optim.name={config.name}"
    kind = import_component("optim.name", config.name)
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise ConfigError(f"{key} must be a torch.optim.Optimizer, and it is {shown(kind)}")
    arguments = inspect.signature(kind).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in arguments.values())
    for name in ("lr", *config.options):
        if name not in arguments and not takes_any:
            if name == "lr":
                raise ConfigError(f"{key} takes no lr, which optim.lr and optim.schedule set")
            near = did_you_mean(name, list(arguments))
            raise ConfigError(f"optim.options.{name}: {config.name} takes no such argument{near}")
    if not takes_any and "weight_decay" not in arguments:
        if config.weight_decay:
            raise ConfigError(
                f"optim.weight_decay={config.weight_decay} has no effect with {key}, which takes no weight_decay: set "
                "optim.weight_decay to 0"
            )
        groups = [{name: value for name, value in group.items() if name != "weight_decay"} for group in groups]
    options = dict(config.options)
    if not fused:
        options |= dict.fromkeys([name for name in ON_A_DEVICE if name in options], False)
    try:
        optimizer: Optimizer = kind(groups, lr=config.lr, **options)  # type: ignore[call-arg]
        return optimizer
    except Exception as error:  # somebody else's constructor may raise anything
        raise ConfigError(f"{key}: {error_line(error)}") from error


def own_estimates(optimizer: Optimizer, config: OptimConfig) -> list[str]:
    """Names in the groups of a newly built `optimizer` that neither `config` nor an argument sets: what it estimates
    while it trains, as Prodigy does with the distance `d`, and needs again on resume."""
    set_by_us = {"params", "lr", "lr_scale", "weight_decay", *config.options}
    set_by_others = set_by_us | inspect.signature(type(optimizer)).parameters.keys()
    return [name for name in optimizer.param_groups[0] if name not in set_by_others]


def check(config: OptimConfig, fused: bool) -> None:
    """Raise ConfigError, one line, for an optimizer that cannot train: take two steps with it on a tiny model.

    It must take a gradient for all parameters at once, and call the closure that computes it once a step, as
    Lightning's loop hands it over. `fused=False`: fused kernels cannot be used, as under fp16.
    """
    key = f"optim.name={config.name}"
    if not fused and config.options.get("fused"):
        raise ConfigError("optim.options.fused=true cannot be used under trainer.precision=16-mixed: its kernel would "
                          "unscale the gradients after they were clipped")  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = nn.Linear(3, 2)
    optimizer = build(parameter_groups(model, config.weight_decay), config, fused=False)
    calls: list[int] = []

    def closure() -> float:
        calls.append(1)
        return 0.0

    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for arguments in ((), (closure,)):
        try:
            inspect.signature(optimizer.step).bind(*arguments)
        except TypeError:
            what = "needs a closure that is called again and again" if not arguments else "takes no closure"
            raise ConfigError(
                f"{key} {what}: step(closure=None) must make one update, as that of torch.optim.SGD"
            ) from None
        try:
            optimizer.step(*arguments)
        except Exception as error:
            raise ConfigError(f"{key}: {error_line(error)}") from error
    if len(calls) != 1:
        raise ConfigError(f"{key} calls the closure that computes the gradient {len(calls)} times a step, not once")

"""Rules shared by several groups of a config or several commands."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from minigpt.errors import ConfigError


def refuse_without_effect(config: Any, group: str, name: str, decider: str, choices: Sequence[str]) -> None:
    """Raise ConfigError if the field `name` of the dataclass `config` was set, but `decider` is none of `choices`.

    Such a setting would be ignored silently, and a comparison would be misleading. `group` is the prefix of the keys in
    the YAML: `optim.`, or empty.
    """
    default = next(field.default for field in fields(config) if field.name == name)
    value, decided = getattr(config, name), getattr(config, decider)
    if value != default and decided not in choices:
        raise ConfigError(
            f"{group}{name}={value} has no effect with {group}{decider}={decided}: "
            f"leave it at {default}, or choose {' or '.join(choices)}"
        )


def refuse_spawning(strategy: object) -> None:
    """Raise ConfigError for a `trainer.strategy` that spawns or forks processes from the running program.

    They would train with copies of the callbacks, whose state would be lost.
    """
    if isinstance(strategy, str) and strategy.lower().removesuffix("_find_unused_parameters_true").removesuffix(
        "_find_unused_parameters_false"
    ) in {"ddp_spawn", "ddp_fork", "ddp_notebook"}:
        raise ConfigError(f"trainer.strategy={strategy} copies a program amid its work: use ddp, which starts it anew")

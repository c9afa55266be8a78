"""The description of a model family of `transformers`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from minigpt.errors import ConfigError, shown
from minigpt.interop.names import Row
from minigpt.model.config import ActivationName, GPTConfig

Fields = Mapping[str, Any]
Settings = dict[str, Any]

NOT_IN_OURS = {"quantization_config": None, "is_encoder_decoder": False, "add_cross_attention": False}
"""Fields of every family's config.json that we can express at this value alone."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model type of `transformers`; the fields of its config.json keep their names."""

    title: str
    model_type: str
    architecture: str
    """The class of `transformers` with the output layer."""
    prefix: str
    """Before every weight but the output layer's; a file of the bare model leaves it out."""
    names: tuple[Row, ...]
    expressible: dict[str, tuple[Any, ...]]
    """Settings of ours, and the values that this family can express."""
    defaults: dict[str, Any]
    """The values of `transformers` for the fields that a config.json may leave out."""
    fixed: dict[str, Any]
    """Fields that we can express at this value alone, which is also what a missing one means."""
    read: Callable[[Fields], tuple[Settings, list[str]]]
    """Checked fields -> our settings, and notes for the user."""
    write: Callable[[GPTConfig], dict[str, Any]]
    """A config of ours that the family can express -> its fields."""
    every_bias: bool
    """Whether the family's models always have biases."""


def activation_of(table: Mapping[str, ActivationName], fields: Fields, name: str) -> ActivationName:
    """Return our name of an activation of theirs; ConfigError for one that we lack."""
    value = fields[name]
    if not isinstance(value, str) or value not in table:
        raise ConfigError(f"{name}={shown(value)} must be one of {', '.join(table)}")
    return table[value]


def name_of_activation(table: Mapping[str, ActivationName], activation: str) -> str:
    """The inverse of `activation_of`: the first of several names of one function."""
    return next(name for name, ours in table.items() if ours == activation)

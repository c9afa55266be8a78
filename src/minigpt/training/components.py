"""The components of the user's own that an experiment names, imported before its run takes a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.errors import ConfigError, shown
from minigpt.system.components import error_line, import_component, user_files
from minigpt.training.callbacks.evaluations import Evaluation, build_evaluations
from minigpt.training.config import Experiment
from minigpt.training.module import GPTModule


@dataclass(frozen=True, kw_only=True)
class Components:
    """The imported components; the model and the optimizer import theirs again when they are built."""

    module: type[GPTModule]
    evaluations: dict[str, Evaluation]
    """By label."""
    files: Mapping[str, Path]
    """The user's own files behind all of them, by their paths relative to the folder that they were imported from."""


def import_components(experiment: Experiment) -> Components:
    """Import all that the experiment names; ConfigError, with the user's line, for what cannot be imported or used."""
    names = experiment.custom_names()
    for key, each in names.items():
        for name in each:
            import_component(key, name)
    return Components(
        module=_module_class(experiment.run.module),
        evaluations=build_evaluations(experiment.run.evaluations),
        files=user_files(name for each in names.values() for name in each),
    )


def _module_class(name: str | None) -> type[GPTModule]:
    found = import_component("run.module", name) if name else GPTModule
    if not (isinstance(found, type) and issubclass(found, GPTModule)):
        raise ConfigError(
            f"run.module={name} must be a subclass of {GPTModule.__module__}.GPTModule, not {shown(found)}"
        )
    return found


def build_module(kind: type[GPTModule], name: str | None, *arguments: Any, **options: Any) -> GPTModule:
    """A module of the class `kind`, which `run.module` calls `name`; ConfigError where it fails, or would not train."""
    try:
        module = kind(*arguments, **options)
    except Exception as error:
        if kind is GPTModule:
            raise
        raise ConfigError(f"run.module={name}: {error_line(error)}") from error
    untrained = [key for key, each in module.named_parameters() if each.requires_grad and not key.startswith("gpt.")]
    if untrained:
        raise ConfigError(
            f"run.module={name}: its parameter {untrained[0]} would not be trained, as only those of self.gpt are: "
            "requires_grad_(False) says so"
        )
    return module

"""Callbacks, loggers and other classes that the trainer's settings name: found, imported and checked."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BASES = {
    "callbacks": ("lightning.pytorch.Callback",),
    "logger": ("lightning.pytorch.loggers.Logger",),
    "plugins": (
        "lightning.pytorch.plugins.Precision",
        "lightning.fabric.plugins.environments.ClusterEnvironment",
        "lightning.fabric.plugins.CheckpointIO",
        "lightning.pytorch.plugins.layer_sync.LayerSync",
    ),
    "strategy": ("lightning.pytorch.strategies.Strategy",),
    "profiler": ("lightning.pytorch.profilers.Profiler",),
    "accelerator": ("lightning.pytorch.accelerators.Accelerator",),
}
"""What a class must be derived from, one of these, by the trainer's setting that names it."""

DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


def import_from_working_folder(words: Sequence[str], contents: Sequence[Any]) -> None:
    """Put the working folder at the end of the import path, if the config names a module that lies there alone.

    `python -m` puts it first. At the end no file of the user's takes the place of an installed module, as a `random.py`
    would. `words` are those of the command line, `contents` the trainer's settings in the YAML files.
    """
    named = " ".join(word for word in words if word.startswith("--trainer.")) + str(contents)
    for module in sorted({path.split(".")[0] for path in DOTTED.findall(named)}):
        lies_here = any(Path(name).exists() for name in (f"{module}.py", module))
        if lies_here and str(Path.cwd()) not in sys.path and not _is_found(module):
            sys.path.append(str(Path.cwd()))


def names_classes(trainer: Mapping[str, Any]) -> bool:
    """Whether the trainer's settings, as they are written, name a class; `callbacks+` adds to `callbacks`."""
    given = [(key, trainer.get(key) or trainer.get(f"{key}+")) for key in BASES]
    return any(
        isinstance(value, dict | list)
        or (isinstance(value, str) and "." in value)
        or (value and key in {"callbacks", "logger", "plugins"} and value is not True)
        for key, value in given
    )


def check_callbacks(values: Any, evaluations: Sequence[str]) -> None:
    """Raise ConfigError for callbacks, as jsonargparse has read them, that monitor what no run has."""
    from minigpt.training.config import evaluation_label
    from minigpt.training.monitors import check_monitors

    named = [value for value in (values if isinstance(values, list) else [values]) if hasattr(value, "class_path")]
    arguments = [getattr(value, "init_args", None) for value in named]
    monitored = (
        (load_class(value.class_path), getattr(given, "monitor", None))
        for value, given in zip(named, arguments, strict=True)
    )
    check_monitors(monitored, list(map(evaluation_label, evaluations)))


def load_class(path: str) -> Any:
    """Import `module.Class`."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def lightning_classes(key: str) -> dict[str, str]:
    """Return Lightning's classes for a setting, by the name that a config may give alone."""
    waiting, found = [load_class(base) for base in BASES[key]], dict[str, str]()
    while waiting:
        for each in waiting.pop().__subclasses__():
            waiting.append(each)
            if each.__module__.split(".")[0] == "lightning" and not each.__name__.startswith("_"):
                found.setdefault(each.__name__, f"{each.__module__}.{each.__name__}")
    return found


def _is_found(module: str) -> bool:
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False

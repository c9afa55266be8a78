"""Variants of the user's own, named by a dotted name in the config: imported, called, and tried once when built."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minigpt.errors import ConfigError
from minigpt.system.components import error_line, import_component, is_dotted

T = TypeVar("T")


def supports_cache(piece: T) -> T:
    """Mark a class or function as one that works behind a KV cache: as a decorator, `@supports_cache`.

    A cached pass reads only the new tokens, so T queries meet S >= T keys, and positions begin at `start`. A class
    states it for itself, not for classes derived from it: a method that these override may not. A model with a piece
    that does not state it generates without a cache, reading the whole window for each token.
    """
    piece._supports_cache = True  # type: ignore[attr-defined]
    return piece


def states_cache_support(piece: Any) -> bool:
    """Whether a function, or the class of an object, is marked with `supports_cache`."""
    marked = piece if hasattr(piece, "__name__") else type(piece)
    return "_supports_cache" in getattr(marked, "__dict__", {})


def find_variant(key: str, name: str, table: Mapping[Any, T]) -> T | Any:
    """Return what `table` holds under `name`, or import the component of that dotted name.

    `key` is the field of GPTConfig. Raises ConfigError for a component that cannot be imported.
    """
    return import_component(f"model.{key}", name) if is_dotted(name) else table[name]


def call(key: str, name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a variant; an exception in a component of the user's own becomes a ConfigError with the user's line.

    A component of the user's own leaves torch's global generator as it was.
    """
    if not is_dotted(name):
        return function(*arguments)
    try:
        with torch.random.fork_rng(devices=[]):
            return function(*arguments)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"model.{key}={name}: {error_line(error)}") from error


def build_module(key: str, name: str, table: Mapping[Any, type], *arguments: Any, base: type = nn.Module) -> Any:
    """Build the module that `name` stands for, with `arguments`.

    Raises ConfigError for a component that cannot be built, or that builds no `base`.
    """
    module = call(key, name, find_variant(key, name, table), *arguments)
    if not isinstance(module, base):
        raise ConfigError(
            f"model.{key}={name} must be a class derived from {base.__module__}.{base.__qualname__}: "
            f"calling it gave {module!r:.60}"
        )
    return module


def try_once(key: str, name: str, run: Callable[[], Any], shape: tuple[int, ...]) -> None:
    """Run a component of the user's own on a small input when it is built, hours before an evaluation would.

    Raises ConfigError for an exception, with the user's line, and for a result other than a tensor of `shape`. Not on
    the meta device, where there are no numbers; built-in variants are not run.
    """
    if not is_dotted(name) or torch.get_default_device().type == "meta":
        return
    with torch.no_grad():
        result = call(key, name, run)
    if not isinstance(result, Tensor) or tuple(result.shape) != shape:
        found = f"one of shape {tuple(result.shape)}" if isinstance(result, Tensor) else f"{result!r:.60}"
        raise ConfigError(f"model.{key}={name} must give a tensor of shape {shape} here: it gave {found}")

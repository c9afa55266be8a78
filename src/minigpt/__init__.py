"""minigpt: small GPTs from scratch, trained by PyTorch Lightning. `GPT`, `GPTConfig` and `load` need no lightning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt import interpret
    from minigpt.api import load
    from minigpt.commands import Run, compare, fit, plan, sweep
    from minigpt.model.config import GPTConfig
    from minigpt.model.gpt import GPT

__version__ = "0.2.0"
__all__ = ["GPT", "GPTConfig", "Run", "__version__", "compare", "fit", "interpret", "load", "plan", "sweep"]

_HOME = {
    "GPT": "minigpt.model.gpt",
    "GPTConfig": "minigpt.model.config",
    "load": "minigpt.api",
    **dict.fromkeys(("Run", "compare", "fit", "plan", "sweep"), "minigpt.commands"),
}


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for, so that `minigpt --help` is instant."""
    import importlib

    if name == "interpret":
        return importlib.import_module("minigpt.interpret")
    if name not in _HOME:
        raise AttributeError(f"module 'minigpt' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Optional libraries, imported where a command needs them."""

import importlib
from typing import Any

from minigpt.errors import ConfigError, MinigptError


def import_extra(module: str, needed_for: str, package: str, error: type[MinigptError] = ConfigError) -> Any:
    """Import the optional `module`, which `pip install package` brings.

    Raises `error`, one line with the pip command, where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise error(f'{needed_for} needs {module.split(".", maxsplit=1)[0]}: pip install "{package}"') from None

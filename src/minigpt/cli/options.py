"""argparse for commands: its errors are one line like all others."""

import argparse
from typing import NoReturn

from minigpt.errors import ConfigError, did_you_mean


class OptionParser(argparse.ArgumentParser):
    """argparse without abbreviations, with defaults in its help, and with errors that are a ConfigError of one line."""

    def __init__(self, command: str, description: str | None) -> None:
        super().__init__(
            prog=f"minigpt {command}",
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
        )

    def option_names(self) -> list[str]:
        """`--steps` and the like."""
        return [option for action in self._actions for option in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Raise it, with the nearest option's name for an unknown one."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0]
            raise ConfigError(f"unknown option {word}{did_you_mean(word.split('=')[0], self.option_names())}")
        raise ConfigError(message)

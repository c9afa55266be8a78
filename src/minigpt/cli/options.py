"""argparse for commands: its errors are one line like all others."""

import argparse
import re
from typing import NoReturn

from minigpt.errors import ConfigError, did_you_mean


class OptionParser(argparse.ArgumentParser):
    """argparse without abbreviations, with defaults in its help, and with errors that are a ConfigError of one line."""

    def __init__(self, command: str, description: str | None) -> None:
        super().__init__(
            prog=f"minigpt {command}",
            description=description,
            formatter_class=_Help,
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
        choice = _CHOICE.search(message)
        raise ConfigError(message + (did_you_mean(choice[1], re.findall(r"[^\s,']+", choice[2])) if choice else ""))


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults where there are any that the help does not tell itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_told = "(default: " in (action.help or "")
        return action.help if is_told or action.default in (None, False, []) else super()._get_help_string(action)


_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)$")

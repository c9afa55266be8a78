"""The errors that a person can put right, each told in one line of that person's words."""

import difflib
import unicodedata
from collections.abc import Iterable


class MinigptError(Exception):
    """Base of every error that ends a command with one line instead of a traceback.

    The message names the thing, the value and the rule; the command line prints it after `minigpt: error: `.
    """

    exit_code = 1


class ConfigError(MinigptError):
    """A setting or a command line that cannot work (exit code 2)."""

    exit_code = 2


class DataError(MinigptError):
    """A text, a tokenizer or a prepared folder that cannot be used (exit code 1)."""


class CheckpointError(MinigptError):
    """A run or a checkpoint that is missing, broken, or not one of ours (exit code 1)."""


class TrainingError(MinigptError):
    """A run that cannot go on: the loss is no longer a number, say (exit code 1)."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`', did you mean NEAREST?'` when some choice is near `name`, else an empty string.

    A dotted name (`model.n_heads`) is compared whole, so that the group counts too.
    """
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""


def printable(text: str) -> str:
    """`text` as one line in which no character moves a terminal's cursor or changes its colours.

    Line ends become spaces; other control characters, which a file's name or a value may hold, are spelt out.
    """
    line = " ".join(text.splitlines())
    return "".join(repr(letter)[1:-1] if unicodedata.category(letter) in _UNSEEN else letter for letter in line)


_UNSEEN = {"Cc", "Cf", "Cs"}
"""Unicode's categories of control characters, of marks such as those that turn the direction of writing, and halves of
surrogate pairs, which no terminal can be sent."""

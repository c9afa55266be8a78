"""The errors that a person can put right, each told in one line of that person's words."""

import difflib
import reprlib
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


def shown(value: object) -> str:
    """A value that came out of a file, for a message: short, whatever its size and however its parts share each other.

    `repr` of a list of two lists of two lists ..., each pair the same object, would never end.
    """
    return _SHORT.repr(value)


def printable(text: str) -> str:
    """`text` as one line in which no character moves a terminal's cursor or changes its colours.

    Line ends become spaces; other control characters, which a file's name or a value may hold, are spelt out.
    """
    line = " ".join(text.splitlines())
    return "".join(repr(letter)[1:-1] if unicodedata.category(letter) in _UNSEEN else letter for letter in line)


class _Short(reprlib.Repr):
    """The library's, which knows sizes of text, whole numbers and plain containers; anything else by its type alone."""

    def repr_instance(self, x: object, level: int) -> str:  # noqa: ARG002
        """The name of the type, but for the plain values that have no other method here."""
        return repr(x) if x is None or isinstance(x, bool | float) else f"<{type(x).__name__}>"


_SHORT = _Short()
_SHORT.maxlevel = 2
_SHORT.maxdict = _SHORT.maxlist = _SHORT.maxtuple = 6
_SHORT.maxstring = _SHORT.maxlong = 80

_UNSEEN = {"Cc", "Cf", "Cs"}
"""Unicode's categories of control characters, of marks such as those that turn the direction of writing, and halves of
surrogate pairs, which no terminal can be sent."""

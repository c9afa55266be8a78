"""The options of a command, declared once by a dataclass and parsed by argparse; its errors are one line."""

import argparse
import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from minigpt.errors import ConfigError, did_you_mean

Prefer = Literal["best", "last"]
_METAVARS = {int: "N", float: "X"}
_CHOICE = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)$")
T = TypeVar("T")


@dataclass(frozen=True)
class _How:
    """How an option is written on the command line, beyond what its field says."""

    metavar: str | None = None
    flag: str | None = None
    positional: bool = False
    append: bool = False
    exclusive: bool = False


def option(
    default: Any = MISSING,
    metavar: str | None = None,
    *,
    flag: str | None = None,
    append: bool = False,
    exclusive: bool = False,
) -> Any:
    """Declare an option: `--NAME METAVAR`, or `flag` instead of `--NAME`. Without `default` it is required.

    The docstring below the field is its help. `append`: it may be given several times. `exclusive`: one at most of the
    options that say so is given.
    """
    return field(default=default, metadata={"how": _How(metavar, flag, append=append, exclusive=exclusive)})


def argument(metavar: str, default: Any = MISSING) -> Any:
    """Declare a positional argument; a field of type `tuple` takes one or more words."""
    return field(default=default, metadata={"how": _How(metavar, positional=True)})


@dataclass(frozen=True, kw_only=True)
class CodeOptions:
    """Where components of the user's own come from."""

    trust_code: bool = False
    """Import components of the user's own from the copies in the run's code/ folder, and so execute them."""


def own_code(options: Any) -> AbstractContextManager[None]:
    """The context in which a command about one run imports that run's components; nothing for other commands."""
    if not isinstance(options, CodeOptions):
        return nullcontext()
    from minigpt.runs.code import run_code

    path = Path(options.run if hasattr(options, "run") else options.snapshot)  # type: ignore[attr-defined]
    return run_code(path if path.exists() else Path("runs") / path, trust=options.trust_code)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(CodeOptions):
    """Which trained model, on which device."""

    run: str = argument("RUN-or-CHECKPOINT")
    """Run folder, its name under runs/, or checkpoint file."""
    prefer: Prefer = "best"
    """Which checkpoint of a run."""
    device: str = "auto"
    """Device: cpu, cuda, cuda:N, mps, or auto for the fastest there is."""


class OptionParser(argparse.ArgumentParser, Generic[T]):
    """argparse for the fields of a dataclass, without abbreviations.

    `T | None` is an option that need not be given, `bool` a switch, `Literal` a choice, `tuple[T, ...]` several words.
    """

    def __init__(self, command: str, description: str | None, options: type[T], epilog: str | None = None) -> None:
        super().__init__(
            prog=f"minigpt {command}",
            description=description,
            epilog=epilog,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self._options = options
        kinds = get_type_hints(options)
        exclusive: argparse._ActionsContainer | None = None
        for each in fields(options):  # type: ignore[arg-type]
            how = each.metadata.get("how", _How())
            if how.exclusive and exclusive is None:
                exclusive = self.add_mutually_exclusive_group()
            names = [] if how.positional else [how.flag or f"--{each.name}"]
            (exclusive if how.exclusive and exclusive else self).add_argument(*names, **_settings(each, how, kinds))

    def parse_options(self, words: Sequence[str]) -> T:
        """Return the options; raises ConfigError, one line."""
        return self._built(self.parse_args(list(words)))

    def parse_known_options(self, words: Sequence[str]) -> tuple[T, list[str]]:
        """Return the options, and the words that are none of them."""
        given, rest = self.parse_known_args(list(words))
        return self._built(given), rest

    def _built(self, given: argparse.Namespace) -> T:
        return self._options(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in vars(given).items()}
        )

    def option_names(self) -> list[str]:
        """Return `--steps` and the like."""
        return [option for action in self._actions for option in action.option_strings]

    def format_help(self) -> str:
        """Fill in the docstrings of the fields, which are read only now."""
        docs = field_docs(self._options)
        for action in self._actions:
            if action.dest in docs:
                action.help = _as_help(docs[action.dest])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise it, with the nearest option's name for an unknown one."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0]
            raise ConfigError(f"unknown option {word}{did_you_mean(word.split('=')[0], self.option_names())}")
        choice = _CHOICE.search(message)
        raise ConfigError(message + (did_you_mean(choice[1], re.findall(r"[^\s,']+", choice[2])) if choice else ""))


def _settings(each: Field[Any], how: _How, kinds: dict[str, Any]) -> dict[str, Any]:
    """Return what argparse is to know of a field."""
    kind = next(part for part in _parts(kinds[each.name]) if part is not NoneType)
    default = None if each.default is MISSING else each.default
    default = list(default) if isinstance(default, tuple) else default
    settings: dict[str, Any] = {"dest": each.name, "default": default}
    if kind is bool:
        return settings | {"action": "store_false" if default else "store_true"}
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
        settings |= {"action": "append"} if how.append else {"nargs": "+"}
    if not how.positional:
        settings["required"] = each.default is MISSING
    elif each.default is not MISSING:
        settings["nargs"] = "?"
    if get_origin(kind) is Literal:
        return settings | {"choices": get_args(kind)}
    return settings | {"type": kind, "metavar": how.metavar or _METAVARS.get(kind)}


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def choices_of(kind: Any) -> Iterator[str]:
    """Yield the values of the Literals in a type."""
    for part in _parts(kind):
        if get_origin(part) is Literal:
            yield from get_args(part)


def field_docs(options: type) -> dict[str, str]:
    """Return the docstrings below the fields of a dataclass, those that it inherits too, each as one line."""
    docs: dict[str, str] = {}
    for each in reversed(options.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for node, after in zip(tree.body, tree.body[1:], strict=False):
            match node, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = " ".join(text.split())
    return docs


def _as_help(doc: str) -> str:
    """Return a docstring as argparse writes help: without a capital and a full stop."""
    first = doc[0].lower() if not doc[1:2].isupper() else doc[0]
    return (first + doc[1:]).removesuffix(".").replace("%", "%%")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults where there are any that the help does not state itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_stated = "(default: " in (action.help or "") or isinstance(action.default, bool)
        is_absent = action.default in (None, [], argparse.SUPPRESS)
        return action.help if is_stated or is_absent or action.required else super()._get_help_string(action)

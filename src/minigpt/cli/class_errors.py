"""Errors about a class that the trainer's settings name, in one line: which module, which argument.

jsonargparse says that a value fits none of the types that a setting may have; here the class itself is asked.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt.cli.classes import BASES, DOTTED, lightning_classes, load_class
from minigpt.cli.messages import in_words
from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.components import error_line

_KEY = re.compile(r'"trainer\.(\w+)"')


@dataclass(frozen=True)
class Named:
    """A class as a config names it."""

    path: str
    arguments: dict[str, Any] = field(default_factory=dict)


def explain(message: str, words: Sequence[str]) -> str | None:
    """Return what is wrong with a class in an error of jsonargparse, as one line; None if it is about no class.

    `words` are those of the command line.
    """
    key = _KEY.search(message)
    if key is None or key[1] not in BASES:
        return None
    named = list(_named(message.rpartition("Given value:")[2].strip(), key[1], words))
    faults = (_fault(each, key[1], message) for each in named)
    fault = next(filter(None, faults), None) or _inner_fault(message) or _wrong_type(message, named)
    return f"trainer.{key[1]}: {fault}" if fault else None


def check_no_class_as_text(trainer: dict[str, Any]) -> None:
    """Raise ConfigError for a class where a text is taken too (`strategy`): jsonargparse leaves it a text."""
    for key in ("strategy", "accelerator", "profiler"):
        text = trainer.get(key)
        if not isinstance(text, str):
            continue
        if text.startswith("{") or DOTTED.fullmatch(text) or text in lightning_classes(key):
            fault = next(filter(None, (_fault(each, key, "") for each in _named(text, key, ()))), None)
            how = f"{text} is read as a name: a class is --trainer.{key}.class_path, its arguments --trainer.{key}.NAME"
            raise ConfigError(f"trainer.{key}: {fault or how}")


def explain_build(trainer: dict[str, Any], error: Exception) -> tuple[str, BaseException]:
    """Return which class cannot be built and why, and the exception that its constructor raised if that is found."""
    for key in BASES:
        values = trainer.get(key)
        for value in values if isinstance(values, list) else [values]:
            path, given = getattr(value, "class_path", None), getattr(value, "init_args", None)
            arguments = dict(vars(given)) if given is not None else {}
            if path is None or any(hasattr(argument, "class_path") for argument in arguments.values()):
                continue
            try:
                load_class(path)(**arguments)
            except Exception as own:
                return f"trainer.{key}: {path} cannot be built: {error_line(own)}", own
    text = str(error)
    reasons = [line.strip()[2:] for line in text.splitlines() if re.match(r"\s*- (?!Expected a |Not a valid )", line)]
    return f"trainer: a class that the config names cannot be built: {(reasons or [text])[0]}", error


def _named(value: str, key: str, words: Sequence[str]) -> Iterator[Named]:
    """Yield the classes in `value` as jsonargparse prints it: a name, or Python with dicts and Namespace(...) in it."""
    if re.fullmatch(r"[\w.]+", value):
        yield Named(value)
        return
    try:
        tree = ast.parse(value, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        yield Named(value)
        return
    if isinstance(tree.body, ast.Call) and ast.unparse(tree.body.func) == "NestedArg":
        # An argument by itself, as --trainer.callbacks.NAME gives it: of the class that was named last.
        name = _plain(tree.body).get("key")
        given = [word.partition("=")[2] for word in words if re.match(rf"--trainer\.{key}\+?(\.class_path)?=", word)]
        if isinstance(name, str) and not given:
            yield Named("", {name: ...})
        elif isinstance(name, str):
            path = next(iter(re.findall(r"[A-Za-z_][\w.]*", given[-1].replace("class_path", ""))), given[-1])
            yield Named(path, {name.removeprefix("init_args."): ...})
        return
    inner = tree.body.elts if isinstance(tree.body, ast.List) else [tree.body]
    for node in inner:
        content = _plain(node)
        if isinstance(content, str):
            yield Named(content)
        elif isinstance(content, dict) and isinstance(content.get("class_path"), str) and content["class_path"]:
            wrong = {name: ... for name in content if name not in {"class_path", "init_args", "dict_kwargs"}}
            if wrong:
                yield Named("", wrong)
            arguments = content.get("init_args")
            yield Named(content["class_path"], arguments if isinstance(arguments, dict) else {})
        elif isinstance(content, dict):
            yield Named("", content)
        else:
            yield Named(ast.unparse(node))


def _plain(node: ast.AST) -> Any:
    """Evaluate literals; turn calls (`Namespace(a=1)`) into the dict of their arguments, anything else into `...`."""
    if isinstance(node, ast.Call):
        return {word.arg: _plain(word.value) for word in node.keywords if word.arg}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {str(_plain(key)): _plain(value) for key, value in pairs if key is not None}
    return node.value if isinstance(node, ast.Constant) else ...


def _fault(named: Named, key: str, message: str) -> str | None:
    """Return what is wrong with the class or, as far as jsonargparse's `message` says so, with its arguments."""
    if not named.path:
        near = did_you_mean(next(iter(named.arguments), ""), ["class_path", "init_args"])
        return f"a class is given by class_path, its arguments by init_args, not by {list(named.arguments)}{near}"
    known = lightning_classes(key)
    path = known.get(named.path, named.path)
    if "." not in path:
        return f"Lightning has no {path}{did_you_mean(path, known) or '; a class of your own is MODULE.CLASS'}"
    fault = _import_failure(path)
    if fault:
        return fault
    found = load_class(path)
    if not isinstance(found, type) or not issubclass(found, tuple(load_class(base) for base in BASES[key])):
        return f"{path} is no class derived from {' or '.join(BASES[key])}"
    return _wrong_arguments(found, named.arguments, message)


def _import_failure(path: str) -> str | None:
    """Return why the class cannot be imported; None if it can."""
    module, _, name = path.rpartition(".")
    try:
        load_class(path)
    except ModuleNotFoundError as error:
        return _no_module(path, str(error.name))
    except AttributeError:
        known = [each for each in dir(sys.modules.get(module)) if not each.startswith("__")]
        return f"{module} has no {name}{did_you_mean(name, known)}"
    except Exception as error:
        return f"{path} cannot be imported: {error_line(error)}"
    return None


def _wrong_arguments(found: type, given: dict[str, Any], message: str) -> str | None:
    """Name an argument in `message` that the class does not have, or that it needs and was not given."""
    names: list[str] = []
    for owner in found.__mro__:
        own = vars(owner).get("__init__")
        parameters = list(inspect.signature(own).parameters.values())[1:] if inspect.isfunction(own) else []
        names += [each.name for each in parameters if each.kind not in _VARIADIC]
        if parameters and all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters):
            break
    for name in re.findall(r"Option '(.+?)' is not accepted", message):
        if name in given and name not in names:
            hint = did_you_mean(name, names) or (f": it has {', '.join(names)}" if names else ": it has none")
            return f"{found.__name__} has no argument {name}{hint}"
    missing = dict.fromkeys(", ".join(re.findall(r"following arguments are required: (.+)", message)).split(", "))
    needed = [name for name in missing if name in names and given.get(name) is None]
    return f"{found.__name__} needs {' and '.join(needed)}" if needed else None


_VARIADIC = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


def _wrong_type(message: str, named: Sequence[Named]) -> str | None:
    """Name an argument of the wrong type: `EarlyStopping: patience=x must be a whole number`."""
    found = re.search(r'Parser key "(\w+)":\s+Expected an? (.+?)\. Got value: (.*)', message)
    if found is None:
        return None
    owner = next((f"{each.path.rpartition('.')[2]}: " for each in named if found[1] in each.arguments), "")
    return f"{owner}{found[1]}={found[3].strip()} must be {in_words(found[2])}"


def _inner_fault(message: str) -> str | None:
    """Name a class among the arguments of another that is wrong: `inner: mine has no Innner`."""
    found = re.search(r'Parser key "(\w+)":\s+Problem with given class_path \'([\w.]+)\'', message)
    fault = _import_failure(found[2]) if found and "." in found[2] else None
    if found and fault:
        return f"{found[1]}: {fault}"
    unknown = re.search(r"Option '(.+?)' is not accepted", message)
    return f"no class here has the argument {unknown[1]}" if unknown else None


def _no_module(path: str, missing: str) -> str:
    """Say that the module `missing` is not there: the module of `path`, or one that it imports."""
    looked = f"looked in {Path.cwd()} and among the installed packages"
    if path == missing or path.startswith(f"{missing}."):
        near = did_you_mean(missing, [found.stem for found in Path.cwd().glob("*.py")])
        return f"there is no module {missing} for {path}{near}: {looked}"
    return f"{path} cannot be imported: it needs the module {missing}, which is not there: {looked}"

"""Components of the user's own, which a config names by a dotted name: `model.position: my_ideas.Spiral`.

They are imported from the working folder or from the environment, and only when a config names them.
"""

import hashlib
import importlib
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from minigpt.errors import ConfigError, did_you_mean, shown

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_PACKAGE = Path(__file__).resolve().parent.parent


def is_dotted(value: object) -> bool:
    """Whether `value` is a dotted name, such as `my_ideas.Spiral`."""
    return isinstance(value, str) and _DOTTED.fullmatch(value) is not None


def check_choice(key: str, value: object, choices: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of `choices` or a dotted name; nothing is imported."""
    known = list(choices)
    if value in known or is_dotted(value):
        return
    near = did_you_mean(value if isinstance(value, str) else shown(value), known)
    raise ConfigError(
        f"{key}={shown(value)} must be one of {', '.join(known)}, or a class of your own as my_file.Name{near}"
    )


def import_component(key: str, name: str, folder: Path | None = None) -> Any:
    """Import what the dotted `name` stands for, the value of the setting `key`.

    `folder` is looked in before the environment; none: the working folder. Raises ConfigError, one line: for a module
    that is missing, for one that fails with the line of the user's that failed, and for a name that it does not have.
    """
    folder = Path.cwd() if folder is None else folder
    if not is_dotted(name):
        raise ConfigError(f"{key}={shown(name)} must be a dotted name, as my_file.Name")
    module_name, attribute = name.rsplit(".", 1)
    module = _import_module(key, name, module_name, folder)
    if not hasattr(module, attribute):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise ConfigError(f"{key}={name}: {_where(module)} has no {attribute}{did_you_mean(attribute, public)}")
    return getattr(module, attribute)


def _import_module(key: str, name: str, module_name: str, folder: Path) -> ModuleType:
    with _importable(folder):
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
                raise ConfigError(f"{key}={name}: {error_line(error)}") from error
            files = [path.stem for path in folder.glob("*.py")]
            raise ConfigError(
                f"{key}={name}: there is no module {error.name} in {folder} or in the environment"
                f"{did_you_mean(error.name, files)}"
            ) from None
        except Exception as error:  # the user's module may raise anything
            raise ConfigError(f"{key}={name}: {error_line(error)}") from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Look into `folder` first for the length of an import, and last from then on, for imports that come later."""
    path = str(folder)
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(path)
        if path not in sys.path:
            sys.path.append(path)


def _where(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or f"the module {module.__name__}")


def user_files(names: Iterable[str]) -> dict[str, Path]:
    """The user's own source files behind imported components, by their path relative to the folder they lie in.

    These are the files of the components and those beside them that were imported too; installed packages and
    minigpt's own files are not among them.
    """
    found: dict[str, Path] = {}
    for name in names:
        path = _file_of(sys.modules.get(name.rsplit(".", 1)[0]))
        if path is None:
            continue
        folder = path.parents[name.count(".") - (0 if path.name == "__init__.py" else 1)]
        for module in list(sys.modules.values()):
            other = _file_of(module)
            if other is not None and other.is_relative_to(folder):
                found[other.relative_to(folder).as_posix()] = other
    return dict(sorted(found.items()))


def file_hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """The sha256 of each file, by the same names."""
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def _file_of(module: ModuleType | None) -> Path | None:
    """The source file of a module of the user's own; None for any other module."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    return None if path.is_relative_to(_PACKAGE) or _is_installed(path) else path


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    paths = sysconfig.get_paths()
    roots = {Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(root) for root in roots)


def error_line(error: BaseException) -> str:
    """An error of the user's own code in one line: file, line number, the line itself, and what went wrong."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        text = (error.text or "").strip()
        return f"{error.filename}, line {error.lineno}: {text}: {type(error).__name__}: {error.msg}"
    frame = user_frame(error)
    if frame is None:
        return " ".join(what.split())
    return " ".join(f"{frame.filename}, line {frame.lineno}: {frame.line}: {what}".split())


def user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost line of the user's own files that an error passed through, or None."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
        and not (path := Path(frame.filename).resolve()).is_relative_to(_PACKAGE)
        and not _is_installed(path)
    ]
    return own[-1] if own else None

"""Components of the user's own, which a config names by a dotted name: `model.position: my_ideas.Spiral`.

They are imported from the working folder or from the environment, and only when a config names them.
"""

import functools
import hashlib
import importlib
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from minigpt.errors import ConfigError, DataError, did_you_mean, shown

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_PACKAGE = Path(__file__).resolve().parent.parent
_FOLDER: ContextVar[Path | None] = ContextVar("_FOLDER", default=None)
"""Where components are imported from, in place of the working folder."""


class MissingModuleError(ConfigError):
    """The module of a component is neither in the folder nor in the environment."""


class MissingFunctionError(DataError):
    """The dotted name of a corpus is neither a file nor in a module that is there."""


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Within the block, import components from `folder` in place of the working folder.

    Modules of the same names that were imported from elsewhere are set aside for the length of the block, and those
    from `folder` are forgotten after it.
    """
    tops = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    aside = {name: sys.modules[name] for name in _own_modules(tops)}
    for name in aside:
        del sys.modules[name]
    token, write, path = _FOLDER.set(folder), sys.dont_write_bytecode, list(sys.path)
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = write
        sys.path[:] = path
        _FOLDER.reset(token)
        for name in _own_modules(tops):
            del sys.modules[name]
        sys.modules.update(aside)


def _own_modules(tops: Collection[str]) -> dict[str, Path]:
    """The imported modules of the user's own that are, or lie in, one of the top-level modules `tops`."""
    modules = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in tops}
    return {name: path for name, module in modules.items() if (path := _file_of(module))}


def is_dotted(value: object) -> bool:
    """Whether `value` is a dotted name, such as `my_ideas.Spiral`."""
    return isinstance(value, str) and _DOTTED.fullmatch(value) is not None


def check_choice(key: str, value: object, choices: Iterable[str], kind: str = "class") -> None:
    """Raise ConfigError unless `value` is one of `choices` or the dotted name of a `kind`; nothing is imported."""
    known = list(choices)
    if value in known or is_dotted(value):
        return
    near = did_you_mean(value if isinstance(value, str) else shown(value), known)
    raise ConfigError(
        f"{key}={shown(value)} must be one of {', '.join(known)}, or a {kind} of your own as my_file.Name{near}"
    )


def is_importable(name: str) -> bool:
    """Whether the first part of the dotted `name` is a module that is there; nothing is imported."""
    top = name.partition(".")[0]
    with _importable(_FOLDER.get() or Path.cwd()):
        try:
            return top in sys.modules or importlib.util.find_spec(top) is not None
        except (ImportError, ValueError):
            return False


def import_component(key: str, name: str, folder: Path | None = None) -> Any:
    """Import what the dotted `name` stands for, the value of the setting `key`.

    `folder` is looked in before the environment; none: that of `importing_from`, or else the working folder. A file
    that was edited since it was imported is imported again. Raises ConfigError, one line: for a module that is missing,
    for one that fails with the line of the user's that failed, and for a name that it does not have.
    """
    folder = folder or _FOLDER.get() or Path.cwd()
    if not is_dotted(name):
        raise ConfigError(f"{key}={shown(name)} must be a dotted name, as my_file.Name")
    module_name, attribute = name.rsplit(".", 1)
    module = _import_module(key, name, module_name, folder)
    if not hasattr(module, attribute):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise ConfigError(f"{key}={name}: {_where(module)} has no {attribute}{did_you_mean(attribute, public)}")
    return getattr(module, attribute)


def _import_module(key: str, name: str, module_name: str, folder: Path) -> ModuleType:
    there = sys.modules.get(module_name)
    if there is not None and _file_of(there) is None:  # torch's, say: not to be edited, and with thousands of modules
        return there
    top = module_name.partition(".")[0]
    _forget_edited(top, folder)
    with _importable(folder):
        try:
            before = set(sys.modules)
            module = importlib.import_module(module_name)
            for path in _own_modules({top, *(each.partition(".")[0] for each in set(sys.modules) - before)}).values():
                _HASHES.setdefault(path, _sha256(path))
            return module
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
                raise ConfigError(f"{key}={name}: {error_line(error)}") from error
            files = [path.stem for path in folder.glob("*.py")]
            raise MissingModuleError(
                f"{key}={name}: there is no module {error.name} in {folder} or in the environment"
                f"{did_you_mean(error.name, files)}"
            ) from None
        except Exception as error:  # the user's module may raise anything
            raise ConfigError(f"{key}={name}: {error_line(error)}") from error


def _forget_edited(top: str, folder: Path) -> None:
    """Forget the user's modules if one was edited since its import, or if `folder` has another file of the name `top`.

    In a notebook the next run then has the code as it is, which is also what the run keeps a copy of.
    """
    ours = _own_modules({top})
    if any(not path.exists() or _sha256(path) != known for path, known in _HASHES.items()):
        known = {name: path for name, module in list(sys.modules.items()) if (path := _file_of(module)) in _HASHES}
        forgotten = list(known | ours)
        _HASHES.clear()
    elif (folder / f"{top}.py").exists():  # the modules of other components, imported just now, stay
        forgotten = [name for name, path in ours.items() if not path.is_relative_to(folder.resolve())]
    else:
        return
    for name in forgotten:
        del sys.modules[name]


_HASHES: dict[Path, str] = {}
"""The sha256 of each file of the user's own when it was imported."""


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
    return {name: _sha256(path) for name, path in files.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _file_of(module: ModuleType | None) -> Path | None:
    """The source file of a module of the user's own; None for any other module."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or not Path(file).is_absolute():  # torch.ops: "_ops.py"
        return None
    path = Path(file).resolve()
    is_own = path.is_file() and not path.is_relative_to(_PACKAGE) and not _is_installed(path)  # torch has made-up ones
    return path if is_own else None


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to Python or to an installed package, installed for this user alone too."""
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(root) for root in _installed_roots())


@functools.cache
def _installed_roots() -> set[Path]:
    paths = sysconfig.get_paths()
    return {Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}


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

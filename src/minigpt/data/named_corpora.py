"""The corpora that have a name: functions without arguments that yield the files to read, as a user's own may."""

import hashlib
import os
import platform
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from minigpt.data.cache import cache_root
from minigpt.errors import DataError
from minigpt.system.files import atomic_write

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
"""The plays are in the public domain; the selection is from char-rnn (Andrej Karpathy, MIT licence)."""
SHAKESPEARE_BYTES = 1_115_394

_NOT_LIBRARY = {
    *("site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "idlelib", "ensurepip"),
    "encodings",  # generated tables of code pages: an eighth of all bytes, and a model would write little else
    "pydoc_data",  # the language reference as one long string
}


def python() -> Iterator[Path]:
    """Every module of the running interpreter's standard library that is UTF-8, without its tests and what is
    installed beside it."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_LIBRARY]
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    if not files:
        raise DataError(f"corpus python: no modules in {root}; name a file or folder of text instead")
    yield from (path for path in sorted(files) if _is_text(path.read_bytes()))


def shakespeare() -> Iterator[Path]:
    """Tiny Shakespeare, downloaded once into the cache and checked."""
    path = _shakespeare_path()
    if path.exists():
        _check_shakespeare(path.read_bytes(), str(path))
    else:
        content = _download(SHAKESPEARE_URL)
        _check_shakespeare(content, SHAKESPEARE_URL)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
    yield path


NAMED_CORPORA: dict[str, Callable[[], Iterator[Path]]] = {"python": python, "shakespeare": shakespeare}


def corpus_name(spec: str, version: str | None = None) -> str:
    """The name of a corpus in tables: for `python` with the version (of this interpreter, or `version`), since each
    version's library is another text."""
    return f"python {version or platform.python_version()}'s library" if spec == "python" else spec


def needs_network(spec: str) -> bool:
    """Whether the corpus would have to be downloaded first."""
    return spec == "shakespeare" and not _shakespeare_path().exists()


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _download(url: str) -> bytes:
    try:
        with urlopen(Request(url, headers={"User-Agent": "minigpt"}), timeout=20) as answer:
            content: bytes = answer.read(16 << 20)
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        local = "take a local copy with `--data.corpus FILE` (`--corpus FILE` for prepare)"
        raise DataError(f"corpus shakespeare: cannot download {url}: {reason}; {local}") from None
    return content


def _shakespeare_path() -> Path:
    return cache_root() / "corpora" / "tinyshakespeare.txt"


def _check_shakespeare(content: bytes, source: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != SHAKESPEARE_SHA256:
        raise DataError(f"corpus shakespeare: {source} has sha256 {found}, expected {SHAKESPEARE_SHA256}")

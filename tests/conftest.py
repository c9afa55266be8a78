"""What all tests share: a cache of their own, and a small text."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Two test processes on two cores: one thread each. Set before torch is imported, and inherited by commands under test.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Started in the background by a script, a process has SIGINT ignored, and so have the commands that it starts: those
# whose Ctrl-C is tested would never hear it. A handler here is reset to the default in them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is read from or written to the user's cache."""
    os.environ["MINIGPT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 20,000 characters that a small model can learn something from."""
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    lines = (f"line {n}: {n} and {n + 1} make {2 * n + 1}, and {n} times two is {2 * n}.\n" for n in range(1000))
    path.write_text("".join(lines)[:20_000], encoding="utf-8")
    return path


@pytest.fixture
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder for files of the user's own; what is imported from it is forgotten afterwards."""
    folder = tmp_path_factory.mktemp("own")
    monkeypatch.chdir(folder)
    path, modules = list(sys.path), set(sys.modules)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]

"""A `minigpt` process that does itself harm at a chosen moment; kills.py starts it.

    python benchmarks/kills_child.py --place save --way SIGKILL --nth 5 --note FILE -- fit --config FILE ...

The product has no hooks for this: the function at the chosen place is wrapped, at the moment its module is imported, so
that the program starts as it always does. The harm is a real signal to this very process, or a raised error.
"""

import argparse
import errno
import functools
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HARNESS_FAULT = 70
"""Exit code when the harness itself is wrong: what it wants to wrap is not there."""
PURPOSE = "raised on purpose"
"""What the deliberate exception says; its traceback is the only one that a process may show."""

Patch = Callable[[Any], None]


class Note:
    """What the parent is told, a line of JSON for each event: it must survive a SIGKILL right after."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, event: str, **facts: Any) -> None:
        """Append an event and its time."""
        with self.path.open("a") as file:
            file.write(json.dumps({"event": event, "time": time.time(), **facts}) + "\n")


class Harm:
    """The harm of one process: it strikes at the `nth` moment of its place, once; a full disk stays full."""

    def __init__(self, way: str, nth: int, note: Note) -> None:
        self.way = way
        self.nth = nth
        self.note = note
        self.count = 0

    def moment(self, before: Callable[[], object] = lambda: None) -> None:
        """Count a moment and strike if it is the one; `before` is done just before the strike."""
        self.count += 1
        if self.count == self.nth or (self.way == "ENOSPC" and self.count > self.nth):
            before()
            self.strike()

    def strike(self) -> None:
        """Do it. A signal that the program handles returns here, and the program goes on."""
        self.note.add("struck", count=self.count)
        if self.way == "exception":
            raise RuntimeError(PURPOSE)
        if self.way == "ENOSPC":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), getattr(signal, self.way))


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Put `around(original, *arguments)` in the place of `owner.name`, which must be there."""
    original = getattr(owner, name, None)
    if original is None:
        fail(f"{owner!r} has no {name}: the place must be found anew")

    @functools.wraps(original)
    def wrapped(*arguments: Any, **settings: Any) -> Any:
        return around(original, *arguments, **settings)

    setattr(owner, name, wrapped)


def fail(message: str) -> None:
    """Tell that the harness is wrong, in a way that nobody takes for a death that was planned."""
    print(f"kills_child: {message}", file=sys.stderr, flush=True)
    os._exit(HARNESS_FAULT)


def _class(module: Any, name: str) -> Any:
    """The class of that name, which must be there."""
    return getattr(module, name, None) or fail(f"{module.__name__} has no {name}: the place must be found anew")


def at_both_ends(harm: Harm, only: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
    """A moment before the call and one after it, where `only(*arguments)` holds."""

    def around(original: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        chosen = only(*arguments)
        if chosen:
            harm.moment()
        result = original(*arguments, **settings)
        if chosen:
            harm.moment()
        return result

    return around


def in_a_write(harm: Harm, file_of: Callable[[Any], Any]) -> Callable[..., Any]:
    """A moment in the middle of each write: half of the bytes are in the file when it strikes."""

    def around(original: Callable[..., Any], owner: Any, data: Any) -> Any:
        def half() -> None:
            if harm.way in {"SIGKILL", "ENOSPC"}:  # after the others the program writes on
                file = file_of(owner)
                file.write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
                file.flush()

        harm.moment(half)
        return original(owner, data)

    return around


class _HalfWritten:
    """An open text file whose writes have a moment in their middle."""

    def __init__(self, file: Any, harm: Harm) -> None:
        self.file = file
        self.harm = harm

    def __enter__(self) -> "_HalfWritten":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, text: str) -> None:
        def half() -> None:
            if self.harm.way in {"SIGKILL", "ENOSPC"}:
                self.file.write(text[: len(text) // 2])
                self.file.flush()

        if text:
            self.harm.moment(half)
        self.file.write(text)


def _is_checkpoint(path: Any, *_: Any) -> bool:
    return ".ckpt" in Path(path).name


def _is_step(path: Any, *_: Any) -> bool:
    return Path(path).name.startswith("step=")


def patches_of(place: str, harm: Harm) -> dict[str, Patch]:
    """Which module is changed, and how, to have moments at `place`; the empty name is what is imported already."""
    both = at_both_ends(harm)

    def opened(original: Callable[..., Any], path: Path, mode: str = "r", *rest: Any, **settings: Any) -> Any:
        file = original(path, mode, *rest, **settings)
        return _HalfWritten(file, harm) if path.name == "metrics.csv" and mode == "a" else file

    def shard_write(shards: Any) -> None:
        wrap(_class(shards, "_OpenShard"), "_write", in_a_write(harm, lambda shard: shard._file))

    def archive_write(archive: Any) -> None:
        wrap(_class(archive, "_Summed"), "write", in_a_write(harm, lambda summed: summed.file))

    places: dict[str, dict[str, Patch]] = {
        "none": {},
        "prepare": {
            "minigpt.data.shards": shard_write,
            "minigpt.data.encoding": lambda encoding: wrap(encoding, "atomic_write", both),
            "minigpt.data.prepared": lambda prepared: wrap(prepared, "atomic_write", both),
        },
        "step": {"minigpt.training.module": lambda module: wrap(_class(module, "GPTModule"), "training_step", both)},
        "validation": {
            "minigpt.training.module": lambda module: wrap(_class(module, "GPTModule"), "validation_step", both)
        },
        "save": {"minigpt.runs.archive": archive_write},
        "rename": {"": lambda _: wrap(Path, "replace", at_both_ends(harm, _is_checkpoint))},
        "delete": {"": lambda _: wrap(Path, "unlink", at_both_ends(harm, _is_step))},
        "link": {"": lambda _: wrap(os, "link", at_both_ends(harm, _is_checkpoint))},
        "curves": {"": lambda _: wrap(Path, "open", opened)},
    }
    return places[place]


class PatchOnImport(importlib.abc.MetaPathFinder):
    """Apply patches to modules right after they are imported."""

    def __init__(self, patches: dict[str, list[Patch]]) -> None:
        self.patches = patches
        self.done: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The ordinary spec, whose loader patches."""
        if name not in self.patches:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            fail(f"there is no module {name}: the place must be found anew")
        assert spec is not None
        execute = spec.loader.exec_module  # type: ignore[union-attr]

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for patch in self.patches[name]:
                patch(module)
            self.done.add(name)

        spec.loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]
        return spec


def compile_without_compiling(_: Any) -> None:
    """torch.compile as minigpt calls it, but with the backend that runs each graph as it is: seconds, not minutes."""
    import torch

    wrap(torch, "compile", lambda original, function: original(function, backend="eager"))


def main() -> int:
    """Set the trap, then run `minigpt` with the words after `--`; gives its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--place", default="none")
    parser.add_argument("--way", default="SIGKILL")
    parser.add_argument("--nth", type=int, default=1, help="which moment of the place")
    parser.add_argument("--after", type=float, help="place startup: seconds from the start of the program")
    parser.add_argument("--note", type=Path, required=True)
    parser.add_argument("--eager", action="store_true", help="torch.compile traces, but does not generate code")
    mark = sys.argv.index("--")
    options, words = parser.parse_args(sys.argv[1:mark]), sys.argv[mark + 1 :]
    note = Note(options.note)
    harm = Harm(options.way, options.nth, note)
    patches: dict[str, list[Patch]] = {}

    def training_begins(original: Callable[..., Any], *arguments: Any) -> Any:
        note.add("training")
        return original(*arguments)

    patches["minigpt.training.module"] = [
        lambda module: wrap(_class(module, "GPTModule"), "on_train_start", training_begins)
    ]
    if options.eager:
        patches["minigpt.training.module"].insert(0, compile_without_compiling)
    if options.place == "startup":
        timer = threading.Timer(options.after, harm.strike)
        timer.daemon = True
        timer.start()
    else:
        for name, patch in patches_of(options.place, harm).items():
            patches.setdefault(name, []).append(patch)
    for patch in patches.pop("", []):
        patch(None)
    finder = PatchOnImport(patches)
    sys.meta_path.insert(0, finder)
    from minigpt.cli.main import main as minigpt

    code = minigpt(words)
    missed = patches.keys() - finder.done
    if code == 0 and missed and any(event_of(options.note, "training")):
        fail(f"never imported: {', '.join(sorted(missed))}")
    return code


def event_of(note: Path, event: str) -> list[dict[str, Any]]:
    """The events of that name in a note."""
    lines = note.read_text().splitlines() if note.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


if __name__ == "__main__":
    sys.exit(main())

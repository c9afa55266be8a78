"""The folder of a run: taking a free one, finding the one to go on with, writing down what it is."""

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.errors import ConfigError
from minigpt.runs.code import keep_code
from minigpt.runs.ownership import strangers
from minigpt.runs.paths import CHECKPOINTS, CODE, CONFIG, DIVERGENCES, LINES, METRICS, PROVENANCE, TOKENIZER
from minigpt.runs.sessions import read_sessions
from minigpt.system.files import atomic_write
from minigpt.system.marks import MARK, write_mark


def take_folder(root: Path, name: str) -> Path:
    """Make and give ROOT/NAME, or the first of ROOT/NAME-2, ROOT/NAME-3, ... that does not exist yet."""
    number = 1
    while True:
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not root.is_dir():
                raise ConfigError(f"run.root={root} is not a folder") from None
            number += 1
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"the run folder {folder} cannot be made: {reason}; run.root says where") from error
        else:
            write_mark(folder, "run")  # first of all: killed at any moment, the folder is known to be a run's
            return folder


def give_back(folder: Path) -> None:
    """Undo `take_folder`, where no step was trained; what holds a checkpoint, or a file that no run writes, stays."""
    for name in (CHECKPOINTS, DIVERGENCES):
        with contextlib.suppress(OSError):  # it is not there, or not empty
            (folder / name).rmdir()
    paths = [path for path in folder.iterdir() if path.name != CODE]
    if all(path.is_file() for path in paths) and not strangers(folder):
        shutil.rmtree(folder / CODE, ignore_errors=True)
        for path in sorted(paths, key=lambda path: path.name == MARK):  # the mark last, so that it is known till then
            path.unlink()
        folder.rmdir()


def set_aside(folder: Path) -> Path | None:
    """Move the curves of a run that begins anew into `earlier-1` (or -2, ...) inside its folder, copy its config there.

    Gives that folder; None where nothing is written yet.
    """
    events = sorted(folder.glob("events.out.tfevents.*"))
    written = (folder / METRICS, *events, *(folder / name for name in LINES))
    curves = [path for path in written if path.exists()]
    if not curves and not (folder / TOKENIZER).exists():
        return None
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    earlier = folder / f"earlier-{number}"
    earlier.mkdir()
    for name in (CONFIG, TOKENIZER):
        if (folder / name).exists():
            atomic_write(earlier / name, (folder / name).read_bytes())
    for path in curves:
        path.rename(earlier / path.name)
    return earlier


def description_of(folder: Path) -> dict[Path, bytes]:
    """The content of the files in the run's folder that `write_run` writes."""
    paths = [*(folder / name for name in (CONFIG, TOKENIZER, PROVENANCE)), *(folder / CODE).rglob("*.py")]
    return {path: path.read_bytes() for path in paths if path.is_file()}


def restore_description(folder: Path, before: Mapping[Path, bytes]) -> None:
    """Undo `write_run`: the files are again as `description_of` gave them."""
    for path in description_of(folder):
        if path not in before:
            path.unlink()
    for path, content in before.items():
        atomic_write(path, content)


def write_run(
    folder: Path, *, config_yaml: str, tokenizer_json: str, provenance: dict[str, Any], files: Mapping[str, Path]
) -> None:
    """Write what a run is into its folder, with the user's own `files`. Its provenance lists every session: the first
    one and each resume."""
    path = folder / PROVENANCE
    sessions = read_sessions(folder)
    atomic_write(folder / CONFIG, config_yaml)
    atomic_write(folder / TOKENIZER, tokenizer_json)
    keep_code(folder, files)
    atomic_write(path, json.dumps({"sessions": [*sessions, provenance]}, indent=2) + "\n")


def record_end(folder: Path, **why: str) -> None:
    """Write into the provenance of the run's last session why it ended, the last line of it."""
    path = folder / PROVENANCE
    with contextlib.suppress(OSError, ValueError, LookupError):  # the console says it too
        content = json.loads(path.read_text(encoding="utf-8"))
        content["sessions"][-1] |= {name: text.strip().splitlines()[-1].strip() for name, text in why.items()}
        atomic_write(path, json.dumps(content, indent=2) + "\n")

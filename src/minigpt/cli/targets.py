"""Checks of where `import` and `export` may write, and the lines that they print."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.errors import ConfigError
from minigpt.interop.folder import why_not_ours
from minigpt.runs.ownership import is_run
from minigpt.system.files import restore_folder
from minigpt.system.output import echo, note

if TYPE_CHECKING:
    from minigpt.model.config import GPTConfig


def check_file(out: Path, overwrite: bool, is_ours: Callable[[Path], bool]) -> None:
    """Raise ConfigError unless a file may be written to `out`.

    Only an empty file and one that `is_ours` are ever replaced, and none of a run's.
    """
    if out.is_dir():
        raise ConfigError(f"{out} is a folder: --out must be a file")
    if out.exists() and not out.is_file():
        raise ConfigError(f"{out} is a device or a pipe: --out must be a file")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists: give another --out, or --overwrite to replace it")
    if out.exists() and out.stat().st_size and not is_ours(out):
        raise ConfigError(f"{out} is not replaced: this command did not write it; give another --out")
    if out.exists() and any(is_run(folder) for folder in (out.parent, out.parent.parent)):
        raise ConfigError(f"{out} is not replaced: it is a file of a run; give another --out")


def check_other(out: Path, source: Path) -> None:
    """Raise ConfigError if `out` is the file that is read."""
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"{out} is what is read: give another --out")


def check_folder(out: Path, overwrite: bool) -> None:
    """Raise ConfigError unless a folder may be written to `out`: only one that an export wrote is ever replaced."""
    restore_folder(out)
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file: --out must be a folder")
    if not overwrite:
        raise ConfigError(f"{out} exists: give another --out, or --overwrite to replace it")
    reason = why_not_ours(out) if any(out.iterdir()) else None
    if reason is not None:
        raise ConfigError(f"{out} is not replaced: {reason}")


def print_notes(notes: Iterable[str]) -> None:
    """Print each note as a line on stderr."""
    for each in notes:
        note(each)


def print_difference(config: "GPTConfig", difference: float, whose: str = "") -> None:
    """Print one line: `largest difference of the logits on 4 x 16 random tokens: 0`."""
    from minigpt.interop.foreign import comparison_shape

    rows, length = comparison_shape(config)
    echo(f"largest difference of the logits{whose and ' ' + whose} on {rows} x {length} random tokens: {difference:g}")

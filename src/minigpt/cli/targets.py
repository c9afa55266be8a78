"""What `import` and `export` share: where they may write, and how they tell what a comparison came to."""

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
    """ConfigError if a file may not be written to `out`: only an empty one and one that `is_ours` are ever replaced,
    and none of a run's."""
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
    """ConfigError if `out` is the very file that is read: it would be gone before anybody knew what became of it."""
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"{out} is what is read: give another --out")


def check_folder(out: Path, overwrite: bool) -> None:
    """ConfigError if a folder may not be made at `out`: one that is not as an export left it is never replaced."""
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


def tell_notes(notes: Iterable[str]) -> None:
    """A line on stderr for each."""
    for each in notes:
        note(each)


def tell_difference(config: "GPTConfig", difference: float, whose: str = "") -> None:
    """One line on stdout: `largest difference of the logits on 4 x 16 random tokens: 0`."""
    from minigpt.interop.foreign import comparison_shape

    rows, length = comparison_shape(config)
    echo(f"largest difference of the logits{whose and ' ' + whose} on {rows} x {length} random tokens: {difference:g}")

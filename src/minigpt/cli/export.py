"""Write a model for other programs: a Hugging Face folder that transformers opens, or one safetensors file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from minigpt.cli.options import CodeOptions, Prefer, argument, option
from minigpt.cli.targets import check_file, check_folder, check_other, print_difference, print_notes
from minigpt.interop.folder import is_our_file
from minigpt.system.files import home_path
from minigpt.system.output import echo

if TYPE_CHECKING:
    from minigpt.api import LoadedGPT


@dataclass(frozen=True, kw_only=True)
class Options(CodeOptions):
    """Which run, and what to write of it."""

    run: str = argument("RUN-or-CHECKPOINT")
    """Run folder, its name under runs/, or checkpoint file."""
    format: Literal["hf", "safetensors"] = option()
    """What to write."""
    out: str = option(metavar="PATH")
    """Where: a folder for hf, a file for safetensors."""
    prefer: Prefer = "best"
    """Which checkpoint of a run."""
    overwrite: bool = False
    """Replace what is at PATH, if an export wrote it."""


def run(options: Options) -> int:
    """Export, compare with what was written, and report; gives 0."""
    out = home_path(options.out).resolve()
    write, check = WRITERS[options.format]
    check(out, options.overwrite)
    from minigpt.api import load

    loaded = load(options.run, prefer=options.prefer)
    check_other(out, loaded.checkpoint.path)
    write(loaded, out)
    echo(f"written to {options.out} from {loaded.checkpoint.path} (step {loaded.checkpoint.step})")
    return 0


def export_to_hf(loaded: "LoadedGPT", out: Path) -> None:
    """Write a folder for `transformers`."""
    from minigpt.interop.hf import export_hf

    exported = export_hf(loaded.model, loaded.tokenizer, out)
    print_notes(exported.notes)
    echo(f"family      {exported.form}")
    print_difference(loaded.config, exported.difference)
    if exported.from_transformers is not None:
        print_difference(loaded.config, exported.from_transformers, "from transformers")


def export_to_file(loaded: "LoadedGPT", out: Path) -> None:
    """Write a safetensors file with minigpt's parameter names."""
    from minigpt.interop.our_file import export_file

    difference, notes = export_file(loaded.model, loaded.checkpoint, out)
    print_notes(notes)
    print_difference(loaded.config, difference)


WRITERS: dict[str, tuple[Callable[["LoadedGPT", Path], None], Callable[[Path, bool], None]]] = {
    "hf": (export_to_hf, check_folder),
    "safetensors": (export_to_file, partial(check_file, is_ours=is_our_file)),
}
"""Format -> its writer, and the check, before anything is loaded, that it may be written there."""

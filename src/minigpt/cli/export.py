"""Write a model for other programs: a Hugging Face folder that transformers opens, or one safetensors file."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.targets import check_file, check_folder, check_other, tell_difference, tell_notes
from minigpt.interop.folder import is_our_file
from minigpt.system.files import home_path
from minigpt.system.output import echo

if TYPE_CHECKING:
    from minigpt.api import LoadedGPT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("run", metavar="RUN-or-CHECKPOINT", help="run folder, its name under runs/, or checkpoint file")
    add("--format", choices=tuple(WRITERS), required=True, default=argparse.SUPPRESS, help="what to write")
    add(
        "--out",
        metavar="PATH",
        required=True,
        default=argparse.SUPPRESS,
        help="hf: a folder; safetensors: a file",
    )
    add("--prefer", choices=("best", "last"), default="best", help="which checkpoint of a run")
    add("--overwrite", action="store_true", help="replace what is at PATH, if an export wrote it")


def run(args: argparse.Namespace) -> int:
    """Export, compare, and say so; gives 0."""
    out = home_path(args.out).resolve()
    write, check = WRITERS[args.format]
    check(out, args.overwrite)
    from minigpt.api import load

    loaded = load(args.run, prefer=args.prefer)
    check_other(out, loaded.checkpoint.path)
    write(loaded, out)
    echo(f"written to {args.out} from {loaded.checkpoint.path} (step {loaded.checkpoint.step})")
    return 0


def export_to_hf(loaded: "LoadedGPT", out: Path) -> None:
    """A folder for `transformers`."""
    from minigpt.interop.hf import export_hf

    exported = export_hf(loaded.model, loaded.tokenizer, out)
    tell_notes(exported.notes)
    echo(f"family      {exported.form}")
    tell_difference(loaded.config, exported.difference)
    if exported.from_transformers is not None:
        tell_difference(loaded.config, exported.from_transformers, "from transformers")


def export_to_file(loaded: "LoadedGPT", out: Path) -> None:
    """A safetensors file with our names."""
    from minigpt.interop.our_file import export_file

    difference, notes = export_file(loaded.model, loaded.checkpoint, out)
    tell_notes(notes)
    tell_difference(loaded.config, difference)


WRITERS: dict[str, tuple[Callable[["LoadedGPT", Path], None], Callable[[Path, bool], None]]] = {
    "hf": (export_to_hf, check_folder),
    "safetensors": (export_to_file, partial(check_file, is_ours=is_our_file)),
}
"""Format -> what writes it, and what checks before anything is loaded that it may be written there."""

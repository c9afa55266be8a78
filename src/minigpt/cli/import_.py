"""Make a checkpoint of a model from elsewhere: a Hugging Face folder, nanoGPT's ckpt.pt, or our own safetensors."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.targets import check_file, check_other, tell_difference, tell_notes
from minigpt.errors import ConfigError
from minigpt.runs.ownership import is_checkpoint
from minigpt.system.files import home_path
from minigpt.system.output import echo

if TYPE_CHECKING:
    from minigpt.interop.foreign import ForeignModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--format", choices=tuple(READERS), required=True, default=argparse.SUPPRESS, help="what the source is")
    add(
        "--source",
        metavar="PATH|NAME",
        required=True,
        default=argparse.SUPPRESS,
        help="hf: a folder with config.json and weights, or OWNER/NAME, looked for in this machine's cache and then "
        "fetched; nanogpt: a ckpt.pt; safetensors: a file that minigpt export wrote",
    )
    add("--out", metavar="FILE", required=True, default=argparse.SUPPRESS, help="the checkpoint to write, FILE.ckpt")
    add(
        "--tokenizer",
        metavar="byte|gpt2|ids|FILE|FOLDER",
        help="instead of the one that is found with the model; ids: none, texts are numbers",
    )
    add("--meta", metavar="FILE", help="nanogpt only: the meta.pkl with the characters")
    add("--overwrite", action="store_true", help="replace FILE, if it is a checkpoint of minigpt's and no run's")


def run(args: argparse.Namespace) -> int:
    """Import, compare, and say what there is now; gives 0."""
    if args.meta is not None and args.format != "nanogpt":
        raise ConfigError(f"--meta is for --format nanogpt: with {args.format} it has no effect")
    if args.meta is not None and args.tokenizer is not None:
        raise ConfigError("--meta and --tokenizer both name the tokenizer: give one")
    out = home_path(args.out).resolve()
    check_file(out, args.overwrite, is_checkpoint)
    check_other(out, home_path(args.source))
    READERS[args.format](args, out)
    echo(f"written to {args.out}: minigpt generate {shlex.quote(args.out)} reads it")
    return 0


def import_hf(args: argparse.Namespace, out: Path) -> None:
    """Of a Hugging Face folder; compared with `transformers` as well, where that is installed."""
    from minigpt.interop.foreign import build
    from minigpt.interop.hf import read_hf
    from minigpt.interop.reference import compare_with_transformers, is_installed

    foreign, folder = read_hf(args.source, args.tokenizer)
    compared = compare_with_transformers(build(foreign), folder) if is_installed() else None
    write(args, foreign, out)
    if compared is not None:
        tell_difference(foreign.config, compared, "from transformers")


def import_nanogpt(args: argparse.Namespace, out: Path) -> None:
    """Of nanoGPT's checkpoint."""
    from minigpt.interop.nanogpt import read_nanogpt

    write(args, read_nanogpt(args.source, args.tokenizer, args.meta), out)


def import_safetensors(args: argparse.Namespace, out: Path) -> None:
    """Of our own export."""
    from minigpt.interop.our_file import read_file

    write(args, read_file(args.source, args.tokenizer), out)


def write(args: argparse.Namespace, foreign: "ForeignModel", out: Path) -> None:
    """The checkpoint, and what was read, in a few lines."""
    from minigpt.interop.foreign import write_foreign
    from minigpt.model.sizes import parameter_count

    difference = write_foreign(foreign, out, command_line(args))
    tell_notes(foreign.notes)
    config = foreign.config
    echo(f"model       {config.n_layer} layers, width {config.n_embd}, {parameter_count(config):,} parameters")
    echo(f"tokenizer   {foreign.tokenizer.kind}, {foreign.tokenizer.vocab_size:,} tokens")
    special = foreign.tokenizer.special
    sides = {"before": special.before, "behind": special.after}
    around = [f"{' '.join(map(str, ids))} {side} each" for side, ids in sides.items() if ids]
    ends = " ".join(map(str, special.stop))
    echo(f"prompts     {', '.join(around) or 'nothing added'}; texts end at {ends or 'no id'}")
    tell_difference(config, difference)


def command_line(args: argparse.Namespace) -> str:
    """The command again, for the provenance."""
    words = ["minigpt", "import", "--format", args.format, "--source", args.source, "--out", args.out]
    for name in ("tokenizer", "meta"):
        if getattr(args, name) is not None:
            words += [f"--{name}", getattr(args, name)]
    return shlex.join(words)


READERS: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "hf": import_hf,
    "nanogpt": import_nanogpt,
    "safetensors": import_safetensors,
}

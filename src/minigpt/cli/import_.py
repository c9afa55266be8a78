"""Convert a model into a checkpoint: from a Hugging Face folder, nanoGPT's ckpt.pt, or minigpt's own safetensors."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from minigpt.cli.options import option
from minigpt.cli.targets import check_file, check_other, print_difference, print_notes
from minigpt.errors import ConfigError
from minigpt.runs.ownership import is_checkpoint
from minigpt.system.files import home_path
from minigpt.system.output import echo

if TYPE_CHECKING:
    from minigpt.interop.foreign import ForeignModel


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to read, and where the checkpoint goes."""

    format: Literal["hf", "nanogpt", "safetensors"] = option()
    """What the source is."""
    source: str = option(metavar="PATH|NAME")
    """For hf a folder with config.json and weights, or OWNER/NAME, looked for in this machine's cache and then fetched;
    for nanogpt a ckpt.pt; for safetensors a file that minigpt export wrote."""
    out: str = option(metavar="FILE")
    """The checkpoint to write, FILE.ckpt."""
    tokenizer: str | None = option(None, "byte|gpt2|ids|FILE|FOLDER")
    """Instead of the one that is found with the model; ids: none, texts are numbers."""
    meta: str | None = option(None, "FILE")
    """nanogpt only: the meta.pkl with the characters."""
    overwrite: bool = False
    """Replace FILE, if it is a checkpoint of minigpt's and no run's."""


def run(options: Options) -> int:
    """Import, compare with the source, and report; gives 0."""
    if options.meta is not None and options.format != "nanogpt":
        raise ConfigError(f"--meta is for --format nanogpt: with {options.format} it has no effect")
    if options.meta is not None and options.tokenizer is not None:
        raise ConfigError("--meta and --tokenizer both name the tokenizer: give one")
    out = home_path(options.out).resolve()
    check_file(out, options.overwrite, is_checkpoint)
    check_other(out, home_path(options.source))
    READERS[options.format](options, out)
    echo(f"written to {options.out}: minigpt generate {shlex.quote(options.out)} reads it")
    return 0


def import_hf(options: Options, out: Path) -> None:
    """Import a Hugging Face folder; compare with `transformers` as well if that is installed."""
    from minigpt.interop.foreign import build
    from minigpt.interop.hf import read_hf
    from minigpt.interop.reference import compare_with_transformers, is_installed

    foreign, folder = read_hf(options.source, options.tokenizer)
    compared = compare_with_transformers(build(foreign), folder) if is_installed() else None
    write(options, foreign, out)
    if compared is not None:
        print_difference(foreign.config, compared, "from transformers")


def import_nanogpt(options: Options, out: Path) -> None:
    """Import a checkpoint of nanoGPT's."""
    from minigpt.interop.nanogpt import read_nanogpt

    write(options, read_nanogpt(options.source, options.tokenizer, options.meta), out)


def import_safetensors(options: Options, out: Path) -> None:
    """Import a safetensors file that `minigpt export` wrote."""
    from minigpt.interop.our_file import read_file

    write(options, read_file(options.source, options.tokenizer), out)


def write(options: Options, foreign: "ForeignModel", out: Path) -> None:
    """Write the checkpoint, and print in a few lines what was read."""
    from minigpt.interop.foreign import write_foreign
    from minigpt.model.sizes import parameter_count

    difference = write_foreign(foreign, out, command_line(options))
    print_notes(foreign.notes)
    config = foreign.config
    echo(f"model       {config.n_layer} layers, width {config.n_embd}, {parameter_count(config):,} parameters")
    echo(f"tokenizer   {foreign.tokenizer.kind}, {foreign.tokenizer.vocab_size:,} tokens")
    special = foreign.tokenizer.special
    sides = {"before": special.before, "behind": special.after}
    around = [f"{' '.join(map(str, ids))} {side} each" for side, ids in sides.items() if ids]
    ends = " ".join(map(str, special.stop))
    echo(f"prompts     {', '.join(around) or 'nothing added'}; texts end at {ends or 'no id'}")
    print_difference(config, difference)


def command_line(options: Options) -> str:
    """Return the command, for the provenance."""
    words = ["minigpt", "import", "--format", options.format, "--source", options.source, "--out", options.out]
    for name in ("tokenizer", "meta"):
        if getattr(options, name) is not None:
            words += [f"--{name}", getattr(options, name)]
    return shlex.join(words)


READERS: dict[str, Callable[[Options, Path], None]] = {
    "hf": import_hf,
    "nanogpt": import_nanogpt,
    "safetensors": import_safetensors,
}

"""Turn a corpus into token shards ahead of a run: documents, a tokenizer, two splits, one folder."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from minigpt.data.options import PrepareOptions, SplitName
from minigpt.errors import ConfigError
from minigpt.system.output import echo

if TYPE_CHECKING:
    from minigpt.data.prepared import Prepared

_DEFAULTS = {field.name: field.default for field in fields(PrepareOptions)}
_TOKENIZER = "bpe"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--corpus",
        metavar="FILE|FOLDER|NAME",
        required=True,
        default=argparse.SUPPRESS,
        help="python (the standard library), shakespeare, a file, a folder, a glob in quotes; .jsonl, .parquet, and "
        "all of them with .gz or .zst, too",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        required=True,
        default=argparse.SUPPRESS,
        help="folder for the shards: a new or an empty one, or one to go on with",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="byte|char|bpe|gpt2|FILE",
        default=_TOKENIZER,
        help="bpe is trained on the corpus; FILE: a tokenizer.json, or a folder that holds one",
    )
    parser.add_argument(
        "--vocab_size",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help=f"bpe only: tokens to learn (default: {_DEFAULTS['vocab_size']})",
    )
    parser.add_argument(
        "--val_fraction",
        type=float,
        metavar="F",
        default=_DEFAULTS["val_fraction"],
        help="share of the text that is held out for validation",
    )
    parser.add_argument(
        "--split",
        choices=get_args(SplitName),
        default=_DEFAULTS["split"],
        help="hold out whole documents, or the end of the text; auto: documents where there are several, and the ends "
        "of long ones where whole ones would miss the share",
    )
    parser.add_argument(
        "--text_field",
        metavar="NAME",
        default=_DEFAULTS["text_field"],
        help="field of .jsonl lines or column of .parquet files with the text",
    )
    parser.add_argument(
        "--unknown", action="store_true", help="char only: a token for characters that the corpus does not have"
    )
    parser.add_argument(
        "--allow_lossy_tokenizer",
        action="store_true",
        help="take a tokenizer that does not give the text back; what it loses is said, and no bits per byte compare",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace another prepared text that is in the folder; nothing else"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=_DEFAULTS["workers"],
        help="processes that share the work; the shards are the same for any number",
    )


def run(args: argparse.Namespace) -> int:
    """Prepare, and write what there is now to stdout; gives 0."""
    values = {name: getattr(args, name) for name in _DEFAULTS if hasattr(args, name)}
    if "vocab_size" in values and args.tokenizer != "bpe":
        raise ConfigError(f"vocab_size={args.vocab_size} is for tokenizer=bpe; {args.tokenizer} has its own number")
    options = PrepareOptions(**values)
    from minigpt.data.prepare import prepare

    before = _index_time(Path(args.out))
    prepared = prepare(options, Path(args.out), progress=True, overwrite=args.overwrite)
    if before is not None and before == _index_time(Path(args.out)):
        echo(f"{args.out} holds this text in these tokens already: nothing was written")
    echo(as_table(prepared))
    for note in prepared.notes:
        echo(f"note       {note}")
    echo(f"\n{fit_command(options, prepared)}")
    return 0


def _index_time(folder: Path) -> int | None:
    """When the index of a prepared folder was written."""
    index = folder / "index.json"
    return index.stat().st_mtime_ns if index.is_file() else None


def as_table(prepared: "Prepared") -> str:
    """What is in the folder, one line for each split."""
    from minigpt.system.tables import Table

    columns = ("split", "documents", "tokens", "bytes", "bytes per token", "shards")
    splits: list[Sequence[str]] = []
    for name, split in (("train", prepared.train), ("val", prepared.val)):
        counts = [f"{count:,}" for count in (split.n_documents, split.n_tokens, split.n_bytes)]
        splits.append([name, *counts, f"{split.n_bytes / split.n_tokens:.3f}", str(len(split.shards))])
    table = Table(columns=columns, rows=splits, numbers=frozenset(columns[1:]))
    tokenizer = f"{prepared.tokenizer.kind}, {prepared.tokenizer.vocab_size:,} tokens"
    rows = {"folder": prepared.folder, "tokenizer": tokenizer, "held out": prepared.held_out}
    if prepared.files:
        rows["files"] = prepared.files
    return "\n".join([table.plain(), *(f"{name:<11}{value}" for name, value in rows.items())])


def fit_command(options: PrepareOptions, prepared: "Prepared") -> str:
    """The command that trains on the folder: it must ask for the same things as the folder was made with."""
    words = ["minigpt", "fit", "--config", "base", "--data.corpus", str(prepared.folder)]
    words += ["--data.tokenizer", options.tokenizer]
    if options.tokenizer == "bpe":
        words += ["--data.vocab_size", str(options.vocab_size)]
    for name in ("val_fraction", "split", "unknown", "allow_lossy_tokenizer"):
        value = getattr(options, name)
        if value != _DEFAULTS[name]:
            words += [f"--data.{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)

"""Turn a corpus into token shards ahead of a run: documents, a tokenizer, two splits, one folder."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.options import option
from minigpt.data.options import PrepareOptions
from minigpt.system.output import echo
from minigpt.system.settings import refuse_without_effect

if TYPE_CHECKING:
    from minigpt.data.prepared import Prepared


@dataclass(frozen=True, kw_only=True)
class Options(PrepareOptions):
    """What to prepare, and where it goes."""

    corpus: str = option(metavar="FILE|FOLDER|NAME")
    """Text: python (the standard library), shakespeare, a file, a folder, a glob in quotes; .jsonl, .parquet, and all
    of them with .gz or .zst, too."""
    tokenizer: str = option("bpe", "byte|char|bpe|gpt2|FILE")
    """Tokenizer; bpe is trained on the corpus; FILE: a tokenizer.json, or a folder that holds one."""
    out: str = option(metavar="FOLDER")
    """Folder for the shards: a new or an empty one, or one to go on with."""
    overwrite: bool = False
    """Replace another prepared text that is in the folder; nothing else."""

    def __post_init__(self) -> None:
        """Check every value; raises ConfigError with the value and the rule."""
        super().__post_init__()
        refuse_without_effect(self, "", "vocab_size", "tokenizer", ("bpe",))


def run(options: Options) -> int:
    """Prepare, and print what is in the folder now; gives 0."""
    names = [field.name for field in fields(PrepareOptions)]
    what = PrepareOptions(**{name: getattr(options, name) for name in names})
    from minigpt.data.prepare import prepare

    before = _index_time(Path(options.out))
    prepared = prepare(what, Path(options.out), progress=True, overwrite=options.overwrite)
    if before is not None and before == _index_time(Path(options.out)):
        echo(f"{options.out} holds this text in these tokens already: nothing was written")
    echo(as_table(prepared))
    for note in prepared.notes:
        echo(f"note       {note}")
    echo(f"\n{fit_command(what, prepared)}")
    return 0


def _index_time(folder: Path) -> int | None:
    """Return when the index of a prepared folder was written; None if there is none."""
    index = folder / "index.json"
    return index.stat().st_mtime_ns if index.is_file() else None


def as_table(prepared: "Prepared") -> str:
    """Return a table with a line for each split of the folder."""
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
    """Return the command that trains on the folder, with the settings that it was prepared with."""
    words = ["minigpt", "fit", "--config", "base", "--data.corpus", str(prepared.folder)]
    words += ["--data.tokenizer", options.tokenizer]
    if options.tokenizer == "bpe":
        words += ["--data.vocab_size", str(options.vocab_size)]
    for name in ("val_fraction", "split", "unknown", "allow_lossy_tokenizer"):
        value = getattr(options, name)
        if value != getattr(PrepareOptions, name):
            words += [f"--data.{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)

"""Exact loss, perplexity and bits per byte of a run or a checkpoint over a whole split, every token once."""

import math
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from minigpt.cli.options import ModelOptions, option
from minigpt.data.options import PrepareOptions
from minigpt.errors import ConfigError, DataError
from minigpt.system.files import home_path
from minigpt.system.output import as_json, console, echo, note

if TYPE_CHECKING:
    import numpy as np

    from minigpt.api import LoadedGPT
    from minigpt.data.prepare import Prepared
    from minigpt.data.round_trip import ByteCorrection
    from minigpt.data.splitting import Side
    from minigpt.evaluate.loss import Evaluation
    from minigpt.runs.checkpoint import Checkpoint


Split = Literal["val", "train", "all"]
_PARTS: dict[str, str] = {"val": "val split of", "train": "train split of", "all": "all of"}


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Which model, on which text."""

    corpus: str | None = option(None, "CORPUS", flag="--data.corpus")
    """Another text, cut by the checkpoint's tokenizer: a named corpus, file, folder or prepared folder (default: that
    of the training)."""
    text_field: str | None = option(None, "NAME", flag="--data.text_field")
    """Field or column with the text in .jsonl and .parquet files."""
    split: Split | None = None
    """Which part of the text (default: val of the run's own, all of another)."""
    batch_size: int = 32
    """Windows at a time; changes no result."""
    json: bool = False
    """Write one line of JSON instead of a table."""


def run(options: Options) -> int:
    """Evaluate and write the result to stdout; gives 0."""
    if options.batch_size < 1:
        raise ConfigError(f"batch_size={options.batch_size} must be a whole number, 1 or more")
    from minigpt.api import load
    from minigpt.data.splitting import SIDES

    loaded = load(options.run, device=options.device, prefer=options.prefer)
    given = {"corpus": options.corpus, "text_field": options.text_field}
    overrides = {name: value for name, value in given.items() if value is not None}
    prepare = prepare_options(loaded.checkpoint, overrides)
    is_own = "corpus" not in overrides
    split: Split = options.split or ("val" if is_own else "all")
    prepared = open_corpus(loaded.checkpoint, prepare, whole=split == "all" and not is_own)
    if is_own:
        note_changed_corpus(loaded.checkpoint, prepared, prepare.corpus)
    for each in prepared.notes:
        note(each)
    if prepared.files and not is_own:
        note(f"files of {prepare.corpus}: {prepared.files}")
    sides: tuple[Side, ...] = SIDES if split == "all" else (split,)
    parts = [prepared.train if side == "train" else prepared.val for side in sides]
    shards = [shard for part in parts for shard in part.shards]
    if sum(map(len, shards)) < 2:
        raise DataError(f"{prepare.corpus}: nothing to score in its {split} split: it has fewer than 2 tokens")
    share = sum(part.n_bytes for part in parts) / max(1, prepared.train.n_bytes + prepared.val.n_bytes)
    evaluation = evaluate_with_bar(loaded, shards, options.batch_size, prepared.correction(*sides))
    result = as_dict(loaded.checkpoint, prepare.corpus, split, share, evaluation)
    echo(as_json(result) if options.json else as_table(result))
    return 0


def prepare_options(checkpoint: "Checkpoint", overrides: dict[str, str]) -> PrepareOptions:
    """Return how to prepare the corpus: as for the training of `checkpoint`, with the overrides of the command line."""
    known = {field.name for field in fields(PrepareOptions)} - {"workers"}
    values: dict[str, Any] = {name: value for name, value in checkpoint.data.items() if name in known} | overrides
    if "corpus" not in values:
        raise ConfigError(f"{checkpoint.path} does not say on which corpus it was trained: give --data.corpus")
    values.setdefault("tokenizer", checkpoint.tokenizer.kind)
    values["allow_lossy_tokenizer"] = True  # it has been trained with, and is measured: what it loses is said
    return PrepareOptions(**values)


def open_corpus(checkpoint: "Checkpoint", options: PrepareOptions, *, whole: bool = False) -> "Prepared":
    """Open the corpus in the tokens of `checkpoint`; a prepared folder keeps the split that it was prepared with.

    `whole`: a text is prepared as one, nothing of it held out, however short it is.
    """
    from minigpt.data.prepare import prepare_cached
    from minigpt.data.prepared import is_prepared, open_prepared

    folder = home_path(options.corpus)
    if not is_prepared(folder):
        return prepare_cached(options, progress=sys.stderr.isatty(), tokenizer=checkpoint.tokenizer, whole=whole)
    prepared = open_prepared(folder)
    theirs, ours = prepared.tokenizer, checkpoint.tokenizer
    if theirs.fingerprint != ours.fingerprint:
        raise DataError(
            f"{folder} was prepared with another tokenizer ({theirs.kind}, {theirs.vocab_size} tokens) than that of "
            f"{checkpoint.path} ({ours.kind}, {ours.vocab_size} tokens)"
        )
    return prepared


def note_changed_corpus(checkpoint: "Checkpoint", prepared: "Prepared", corpus: str) -> None:
    """Note on stderr that the corpus has changed since training: its validation split may hold text trained on."""
    from minigpt.data.identity import DataIdentity

    sides = [ask(prepared.identity) for ask in (checkpoint.identity.same_training, checkpoint.identity.same_held_out)]
    if sides != [True, True] and checkpoint.identity != DataIdentity():
        note(f"corpus {corpus} has changed since {checkpoint.path} was trained on it")


def evaluate_with_bar(
    loaded: "LoadedGPT", shards: "list[np.ndarray]", batch_size: int, correction: "ByteCorrection | None" = None
) -> "Evaluation":
    """Evaluate with a progress bar on stderr, if that is a terminal."""

    from minigpt.evaluate.loss import evaluate
    from minigpt.system.status_bar import status_bar

    total = sum(max(0, len(shard) - 1) for shard in shards)
    with status_bar(console(stderr=True), "validating", total, "tokens") as advance:
        return evaluate(
            loaded.model,
            shards,
            loaded.tokenizer.token_bytes(),
            correction=correction,
            batch_size=batch_size,
            progress=advance,
        )


def as_dict(
    checkpoint: "Checkpoint", corpus: str, split: str, share: float, evaluation: "Evaluation"
) -> dict[str, Any]:
    """Return the result as plain values; a number that is not finite, for which JSON has no word, is None."""
    numbers = {name: getattr(evaluation, name) for name in ("loss", "perplexity", "bits_per_byte")}
    return {
        "checkpoint": str(checkpoint.path),
        "step": checkpoint.step,
        "corpus": corpus,
        "split": split,
        "share": share,
        **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
        "n_tokens": evaluation.n_tokens,
        "n_bytes": evaluation.n_bytes,
    }


def as_table(result: dict[str, Any]) -> str:
    """Return the result as a table."""

    def number(name: str) -> str:
        return "not a finite number" if result[name] is None else f"{result[name]:.4f}"

    rows = {
        "checkpoint": f"{result['checkpoint']} (step {result['step']})",
        "data": f"{_PARTS[result['split']]} {result['corpus']}",
        "size": f"{result['n_tokens']:,} tokens, {result['n_bytes']:,} bytes: {result['share']:.1%} of the text",
        "loss": f"{number('loss')} nats per token",
        "perplexity": number("perplexity"),
        "bits per byte": number("bits_per_byte"),
    }
    return "\n".join(f"{name:<14}{value}" for name, value in rows.items())

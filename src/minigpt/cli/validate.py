"""Exact loss, perplexity and bits per byte of a run or a checkpoint over a whole split, every token once."""

import argparse
import math
import sys
from argparse import SUPPRESS
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN-or-CHECKPOINT", help="run folder, its name under runs/, or checkpoint file")
    parser.add_argument(
        "--data.corpus",
        dest="corpus",
        metavar="CORPUS",
        default=SUPPRESS,
        help="another text, cut by the checkpoint's tokenizer: a named corpus, file, folder or prepared folder "
        "(default: that of the training)",
    )
    parser.add_argument(
        "--data.text_field",
        dest="text_field",
        metavar="NAME",
        default=SUPPRESS,
        help="field or column with the text in .jsonl and .parquet files",
    )
    parser.add_argument(
        "--split",
        choices=("val", "train", "all"),
        default=None,
        help="which part of the text (default: val of the run's own, all of another)",
    )
    parser.add_argument("--batch_size", type=int, metavar="N", default=32, help="windows at a time; changes no result")
    parser.add_argument("--prefer", choices=("best", "last"), default="best", help="which checkpoint of a run")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, mps, or auto for the fastest there is")
    parser.add_argument("--json", action="store_true", help="write one line of JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Evaluate and write the result to stdout; gives 0."""
    if args.batch_size < 1:
        raise ConfigError(f"batch_size={args.batch_size} must be a whole number, 1 or more")
    from minigpt.api import load
    from minigpt.data.splitting import SIDES

    loaded = load(args.run, device=args.device, prefer=args.prefer)
    overrides = {name: value for name, value in vars(args).items() if name in {"corpus", "text_field"}}
    options = prepare_options(loaded.checkpoint, overrides)
    is_own = "corpus" not in overrides
    split: Split = args.split or ("val" if is_own else "all")
    prepared = open_corpus(loaded.checkpoint, options, whole=split == "all" and not is_own)
    if is_own:
        note_changed_corpus(loaded.checkpoint, prepared, options.corpus)
    for each in prepared.notes:
        note(each)
    if prepared.files and not is_own:
        note(f"files of {options.corpus}: {prepared.files}")
    sides: tuple[Side, ...] = SIDES if split == "all" else (split,)
    parts = [prepared.train if side == "train" else prepared.val for side in sides]
    shards = [shard for part in parts for shard in part.shards]
    if sum(map(len, shards)) < 2:
        raise DataError(f"{options.corpus}: nothing to score in its {split} split: it has fewer than 2 tokens")
    share = sum(part.n_bytes for part in parts) / max(1, prepared.train.n_bytes + prepared.val.n_bytes)
    evaluation = evaluate_with_bar(loaded, shards, args.batch_size, prepared.correction(*sides))
    result = as_dict(loaded.checkpoint, options.corpus, split, share, evaluation)
    echo(as_json(result) if args.json else as_table(result))
    return 0


def prepare_options(checkpoint: "Checkpoint", overrides: dict[str, str]) -> PrepareOptions:
    """How to prepare the corpus: as for the training of `checkpoint`, but for what the command line says."""
    known = {field.name for field in fields(PrepareOptions)} - {"workers"}
    values: dict[str, Any] = {name: value for name, value in checkpoint.data.items() if name in known} | overrides
    if "corpus" not in values:
        raise ConfigError(f"{checkpoint.path} does not say on which corpus it was trained: give --data.corpus")
    values.setdefault("tokenizer", checkpoint.tokenizer.kind)
    values["allow_lossy_tokenizer"] = True  # it has been trained with, and is measured: what it loses is said
    return PrepareOptions(**values)


def open_corpus(checkpoint: "Checkpoint", options: PrepareOptions, *, whole: bool = False) -> "Prepared":
    """The corpus in the tokens of `checkpoint`; a prepared folder keeps the split that it was prepared with.

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
    """Say on stderr that the text is no longer the one of the training: its split may now hold text trained on."""
    from minigpt.data.identity import DataIdentity

    sides = [ask(prepared.identity) for ask in (checkpoint.identity.same_training, checkpoint.identity.same_held_out)]
    if sides != [True, True] and checkpoint.identity != DataIdentity():
        note(f"corpus {corpus} has changed since {checkpoint.path} was trained on it")


def evaluate_with_bar(
    loaded: "LoadedGPT", shards: "list[np.ndarray]", batch_size: int, correction: "ByteCorrection | None" = None
) -> "Evaluation":
    """`evaluate` with a progress bar on stderr, if that is a terminal."""

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
    """The result as plain values; JSON has no word for a number that is not finite, so such a one is null."""
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
    """The result for a reader."""

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

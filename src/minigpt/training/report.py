"""The lines that a run prints at its start and at its end."""

import shlex
import textwrap
from collections.abc import Collection, Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from minigpt.data.named_corpora import corpus_name
from minigpt.data.prepared import Prepared
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import parameter_count
from minigpt.runs.paths import BEST_NAME
from minigpt.system.output import write_text
from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.changes import Changes
from minigpt.training.config import Experiment
from minigpt.training.resume import Start

_LABEL = 9
"""Columns of the names that stand before what is said."""


def tokens_per_step(experiment: Experiment, config: GPTConfig) -> int:
    """Tokens that one optimizer step learns from, on all devices together."""
    return experiment.data.batch_size * config.block_size * experiment.trainer["accumulate_grad_batches"]


def print_start(
    console: Console,
    experiment: Experiment,
    config: GPTConfig,
    prepared: Prepared,
    *,
    device: str,
    folder: Path,
    start: Start,
    changes: Changes,
    changed_files: Changes,
) -> None:
    """One short table: what is trained, on what, for how long, where; what it goes on from, and what is changed."""
    for reason in start.passed_over:
        console.print(Text(f"passed over: {reason}"))
    step = start.step
    max_steps = experiment.trainer["max_steps"]
    per_step = tokens_per_step(experiment, config)
    trained, held_out = prepared.train.n_tokens, prepared.val.n_tokens
    steps = f"{max_steps:,} of {per_step:,} tokens" + (f", from step {step:,}" if step else "")
    if experiment.optim.warmup_steps >= max_steps:
        steps += f" (all in the warm-up of {experiment.optim.warmup_steps:,})"
    corpus = f"{corpus_name(experiment.data.corpus)} ({prepared.tokenizer.kind})"
    files = {"files": prepared.files} if prepared.files else {}
    rows = {
        "model": f"{parameter_count(config):,} parameters, {config.n_layer} layers, vocabulary {config.vocab_size:,}",
        "data": f"{corpus}: {trained:,} tokens to train on, {held_out:,} held out: {prepared.held_out}",
        **files,
        "steps": f"{steps} = {max_steps * per_step / trained:.2f} epochs",
        "device": device,
        "run": str(folder),
    }
    for number, note in enumerate(prepared.notes):
        rows["note" + " " * number] = note
    if start.checkpoint:
        rows["from"] = f"{start.checkpoint.path} {'(its weights alone)' if start.weights_only else f'(step {step:,})'}"
    _print_rows(console, rows, facts=("model", "data", "files", "steps", "device"))
    for key, (then, now) in changes.items():
        console.print(Text.assemble(("changed  ", "bold yellow"), f"{key}: {then} -> {now}"))
    for name, (then, now) in changed_files.items():
        hashes = f"sha256 {then[:8]} -> {now[:8]}"
        text = f"{name}: another file than the checkpoint was trained with ({hashes}): not the same run to the bit"
        console.print(Text.assemble(("changed  ", "bold yellow"), text))


def print_end(
    console: Console,
    folder: Path,
    checkpoints: Checkpoints,
    *,
    sample: str | None,
    prompt: str,
    evaluations: Mapping[str, float],
) -> None:
    """Print the last sample, the best checkpoint and its loss, the last evaluations, and the commands that use them."""
    if sample is not None:
        console.print(Text("\na sample", style="bold"))
        write_text(console, sample)
    rows = {
        "sample": shlex.join(["minigpt", "generate", str(folder), "--prompt", prompt]),
        "measure": shlex.join(["minigpt", "validate", str(folder)]),
        "curves": shlex.join(["tensorboard", "--logdir", str(folder.parent)]),
    }
    if checkpoints.best_loss is not None:
        best = folder / "checkpoints" / BEST_NAME
        outcome = f"validation loss {checkpoints.best_loss:.4f} at step {checkpoints.best_step:,}"
        rows = {"best": outcome, "weights": str(best), **rows}
    if evaluations:
        numbers = [f"{name.removeprefix('eval/')} {value:.4g}" for name, value in evaluations.items()]
        rows = {"eval": ", ".join(numbers), **rows}
    console.print()
    _print_rows(console, rows)


def _print_rows(console: Console, rows: dict[str, str], facts: Collection[str] = ()) -> None:
    """One line each: paths and commands are there to be copied. On a terminal `facts` go on below themselves."""
    for name, value in rows.items():
        lines = [value]
        if console.is_terminal and name in facts:
            lines = textwrap.wrap(value, max(20, console.width - _LABEL), break_long_words=False) or lines
        text = f"\n{'':<{_LABEL}}".join(lines)
        console.print(Text.assemble((f"{name:<{_LABEL}}", "bold"), text), soft_wrap=True)

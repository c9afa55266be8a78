"""One training run from its config to its last checkpoint."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
from rich.console import Console

from minigpt.data.identity import DataIdentity
from minigpt.data.prepare import prepare_cached
from minigpt.data.prepared import Prepared
from minigpt.data.protocol import with_special_tokens
from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig, padded_vocabulary
from minigpt.model.gpt import GPT
from minigpt.model.sizes import INDEX_BYTES, parameter_count
from minigpt.optim.build import check_optimizer
from minigpt.system.limits import machine_bytes
from minigpt.system.output import console as make_console
from minigpt.system.precision import check_precision, full_name
from minigpt.system.status_bar import shows_bars
from minigpt.system.units import bytes_text
from minigpt.training.components import build_module, import_components
from minigpt.training.config import Experiment
from minigpt.training.datamodule import TokenDataModule
from minigpt.training.last import resume_command
from minigpt.training.quiet import quiet
from minigpt.training.resume import Start, check_same_model, check_same_optimizer, data_changes, find_start
from minigpt.training.run import Run
from minigpt.training.trainer import ignored_variables
from minigpt.training.world import find_world, same_variables


def fit(
    experiment: Experiment,
    *,
    ckpt_path: str | None = None,
    resume: Path | None = None,
    command: Sequence[str] = ("fit",),
    console: Console | None = None,
    prepared: Prepared | None = None,
    on_folder: Callable[[Path], None] = lambda folder: None,  # noqa: ARG005
) -> int:
    """Train; gives the exit code: 0, or 128 + the number of the signal that stopped the run.

    `resume` is the folder of a run to go on with, whatever its name; `ckpt_path` says what else to begin from.
    `on_folder` is called with the run's folder once it is taken, or found to be finished.
    `prepared` is data at hand; without it the experiment's corpus is prepared, in the tokens of its checkpoint.
    The folder is taken only when all else is ready, so that a mistake leaves none behind.
    """
    precision = experiment.trainer["precision"]
    if precision is not None:  # a plugin of the config says it then
        check_precision(precision)
    check_optimizer(experiment.optim, experiment.trainer["max_steps"], fused=full_name(precision) != "16-mixed")
    with quiet():
        world = find_world(experiment.trainer)
    console = console or make_console(quiet=not world.is_main, soft_wrap=True)
    if note := world.note():
        console.print(note)
    for name in ignored_variables(os.environ):
        console.print(f"{name} has no effect: settings come from the config and the command line alone")
    start = find_start(experiment, ckpt_path, resume)
    components = import_components(experiment)
    max_steps = experiment.trainer["max_steps"]
    if start.step >= max_steps:
        how = f": {resume_command(start.folder)} --trainer.max_steps N" if start.folder else ""
        console.print(
            f"{start.folder or ckpt_path} has done its {max_steps:,} steps: raise trainer.max_steps to go on{how}",
            highlight=False, markup=False,
        )  # fmt: skip
        if start.folder:
            on_folder(start.folder)
        return 0
    prepared = with_start_tokens(prepared or prepare(experiment, start, console), start)
    config = model_config(experiment, prepared, start)
    check_memory(config, experiment.data.batch_size)
    if start.checkpoint:
        check_same_model(config, start.checkpoint)
    if start.resumed:
        check_same_optimizer(experiment.optim.name, start.resumed)
    with quiet(console), same_variables():
        pl.seed_everything(experiment.seed_everything, workers=True, verbose=False)
        gpt = GPT(config)
        if start.checkpoint and start.weights_only:
            gpt.load_state_dict(start.checkpoint.weights)
        correction = prepared.correction("val")
        module = build_module(
            components.module,
            experiment.run.module,
            gpt,
            experiment.optim,
            padded_bytes(prepared, config),
            correction=correction and correction.padded(config.vocab_size),
            seed=experiment.seed_everything,
            compiled=experiment.run.compile,
        )
        data = TokenDataModule(
            experiment.data,
            block_size=config.block_size,
            eval_batches=experiment.run.eval_batches,
            seed=experiment.seed_everything,
            prepared=prepared,
        )
        data.setup("fit")  # a text too short for one window is refused before a folder is taken
        run = Run(
            experiment,
            world=world,
            config=config,
            prepared=prepared,
            start=start,
            command=command,
            console=console,
            files=components.files,
            evaluations=components.evaluations,
        )
        on_folder(run.folder)
        return run.train(module, data)


def prepare(experiment: Experiment, start: Start, console: Console) -> Prepared:
    """The shards of the experiment's corpus, in the tokens of the checkpoint that it begins from."""
    options, bar = experiment.data.prepare_options(), shows_bars(console)
    if start.checkpoint is None:
        return prepare_cached(options, progress=bar)
    theirs = start.checkpoint.tokenizer
    if start.weights_only:  # another task: any text, but other tokens would mean nothing to the weights
        console.print(
            f"the tokenizer is the checkpoint's: {theirs.kind}, {theirs.vocab_size:,} tokens", highlight=False
        )
        return prepare_cached(options, progress=bar, tokenizer=theirs)
    changes = data_changes(experiment, start.checkpoint)
    for key in ("tokenizer", "vocab_size", "unknown"):
        if key in changes:
            then, now = changes[key]
            raise ConfigError(f"data.{key}={now} differs from {then} in the checkpoint {start.checkpoint.path}")
    prepared = prepare_cached(options, progress=bar, tokenizer=theirs if changes else None)
    if prepared.tokenizer.fingerprint != theirs.fingerprint:
        prepared = prepare_cached(options, progress=bar, tokenizer=theirs)
    if note := changed_text(start.checkpoint.identity, prepared.identity):
        console.print(note, highlight=False)
    return prepared


def changed_text(then: DataIdentity, now: DataIdentity) -> str:
    """A line about a text that is not, or may not be, the one the checkpoint was trained on; empty: it is."""
    training, held_out = then.same_training(now), then.same_held_out(now)
    if training and held_out:
        return ""
    if training:
        return "the held-out text is not the one of the checkpoint: validation losses before and after do not compare"
    if then == DataIdentity():
        return "the checkpoint does not say which text it was trained on: it is not known whether this is the same one"
    return "the text is not the one that the checkpoint was trained on: the curve goes on with other data"


def with_start_tokens(prepared: Prepared, start: Start) -> Prepared:
    """`prepared` with the special tokens of the checkpoint, which those of a model from elsewhere go on having."""
    theirs = start.checkpoint.tokenizer if start.checkpoint else prepared.tokenizer
    if theirs.fingerprint != prepared.tokenizer.fingerprint:
        return prepared
    return replace(prepared, tokenizer=with_special_tokens(prepared.tokenizer, theirs.special))


def model_config(experiment: Experiment, prepared: Prepared, start: Start) -> GPTConfig:
    """The model's config with the vocabulary of the tokenizer, padded up to `data.vocab_multiple`.

    Weights from elsewhere bring their own padding along.
    """
    vocab_size = padded_vocabulary(prepared.tokenizer.vocab_size, experiment.data.vocab_multiple)
    if start.checkpoint and start.weights_only:
        vocab_size = start.checkpoint.config.vocab_size
    return replace(experiment.model, vocab_size=vocab_size)


def padded_bytes(prepared: Prepared, config: GPTConfig) -> np.ndarray:
    """Bytes of each token (V,), 0 for the ids that only pad the vocabulary."""
    token_bytes = prepared.tokenizer.token_bytes()
    return np.pad(token_bytes, (0, config.vocab_size - len(token_bytes)))


def check_memory(config: GPTConfig, batch_size: int) -> None:
    """Raise ConfigError for a model or a batch larger than this machine's memory.

    Counted is what must pass through it whatever the device and the precision: the weights in float32, in which they
    are drawn, and the tokens of one batch. A run needs several times that, which is not checked here.
    """
    memory = machine_bytes()
    n_parameters = parameter_count(config)
    if 4 * n_parameters > memory:
        raise ConfigError(
            f"the model has {n_parameters:,} parameters, {bytes_text(4 * n_parameters)} of float32, and this machine "
            f"{bytes_text(memory)} of memory (vocab_size={config.vocab_size}, block_size={config.block_size}, "
            f"n_layer={config.n_layer}, n_embd={config.n_embd}, n_ff={config.ff_width})"
        )
    tokens = batch_size * (config.block_size + 1)
    if INDEX_BYTES * tokens > memory:
        raise ConfigError(
            f"data.batch_size={batch_size} windows of model.block_size={config.block_size} tokens take "
            f"{bytes_text(INDEX_BYTES * tokens)}, and this machine has {bytes_text(memory)} of memory"
        )

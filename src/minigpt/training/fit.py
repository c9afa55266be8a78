"""One training run from its config to its last checkpoint."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from rich.console import Console

from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.text.prepare import prepare_cached
from minigpt.text.prepared import Prepared
from minigpt.training.checkpoints import AtomicCheckpointIO, Checkpoints
from minigpt.training.clock import TrainingClock
from minigpt.training.config import Experiment
from minigpt.training.curves import Curves
from minigpt.training.datamodule import TokenDataModule
from minigpt.training.guard import FiniteGuard
from minigpt.training.metrics_file import MetricsFile
from minigpt.training.module import GPTModule
from minigpt.training.outcome import Outcome
from minigpt.training.position import is_main_process
from minigpt.training.progress import ProgressBar
from minigpt.training.provenance import describe
from minigpt.training.quiet import quiet
from minigpt.training.report import print_end, print_start, tokens_per_step
from minigpt.training.resume import Start, check_same_model, data_changes, find_start
from minigpt.training.runs import take_folder, write_run
from minigpt.training.samples import Samples
from minigpt.training.stop import StopOnSignal, Stopped
from minigpt.training.tensorboard import RunTensorBoard
from minigpt.training.validation import PeriodicValidation

_NEVER = 2**62  # batches; PeriodicValidation validates instead of Lightning's interval


def fit(experiment: Experiment, *, ckpt_path: str | None = None, command: Sequence[str] = ("fit",)) -> int:
    """Train; gives the exit code: 0, or 128 + the number of the signal that stopped the run.

    The folder is taken only when all else is ready, so that a mistake leaves none behind.
    """
    console = Console(quiet=not is_main_process(), soft_wrap=True)
    start = find_start(experiment, ckpt_path)
    max_steps = experiment.trainer["max_steps"]
    if max_steps < 1:
        raise ConfigError(f"trainer.max_steps={max_steps} must be at least 1")
    if start.step >= max_steps:
        console.print(f"{start.folder or ckpt_path} has done its {max_steps:,} steps: raise trainer.max_steps to go on")
        return 0
    prepared = prepare(experiment, start, console)
    config = model_config(experiment, prepared)
    if start.checkpoint:
        check_same_model(config, start.checkpoint)
    with quiet():
        pl.seed_everything(experiment.seed_everything, workers=True, verbose=False)
        module = GPTModule(
            GPT(config),
            experiment.optim,
            padded_bytes(prepared, config),
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
        data.setup("fit")  # a text too short for one window is told before a folder is taken
        run = Run(experiment, config=config, prepared=prepared, start=start, command=command, console=console)
        return run.train(module, data)


class Run:
    """The folder, the callbacks and the Trainer of one run."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        config: GPTConfig,
        prepared: Prepared,
        start: Start,
        command: Sequence[str],
        console: Console,
    ) -> None:
        self.experiment = experiment
        self.config = config
        self.prepared = prepared
        self.start = start
        self.console = console
        self.provenance = {
            **describe(command),
            "data_fingerprint": prepared.fingerprint,
            "from_step": start.step,
            "parent": str(start.checkpoint.path) if start.checkpoint else None,
        }
        self.folder = self._take_folder()
        self._build_callbacks()
        self.trainer = self._build_trainer()

    def train(self, module: GPTModule, data: TokenDataModule) -> int:
        """Train to the last step; gives the exit code."""
        run = self.experiment.run
        print_start(
            self.console,
            self.experiment,
            self.config,
            self.prepared,
            device=self._device(),
            folder=self.folder,
            step=self.start.step,
        )
        checkpoint = str(self.start.checkpoint.path) if self.start.checkpoint else None
        try:
            with self.stop.listening():
                self.trainer.fit(module, data, ckpt_path=checkpoint)
        except Stopped as stopped:
            self.console.print(f"{stopped}; its checkpoint is written: --ckpt_path last goes on", highlight=False)
            return 128 + stopped.signal_number
        except SystemExit:
            if self.stop.received is None:
                raise
            return 128 + signal.SIGINT  # the second Ctrl-C
        print_end(self.console, self.folder, self.checkpoints, self.samples.latest, run.sample_prompt)
        return 0

    def _take_folder(self) -> Path:
        """The folder to go on in or a new one; only the first process takes it, and the others never write."""
        run = self.experiment.run
        wanted = Path(run.root) / run.name
        if not is_main_process():
            return self.start.folder or wanted
        folder = self.start.folder or take_folder(Path(run.root), run.name)
        if self.start.folder is None and folder != wanted:
            self.console.print(f"{wanted} is taken by an earlier run: this one is {folder}", highlight=False)
        write_run(
            folder,
            config_yaml=self.experiment.yaml,
            tokenizer_json=self.prepared.tokenizer.to_json(),
            provenance=self.provenance,
        )
        return folder

    def _build_callbacks(self) -> None:
        run, clock = self.experiment.run, TrainingClock()
        header = {
            "config": self.config.to_dict(),
            "tokenizer": self.prepared.tokenizer.to_json(),
            "provenance": self.provenance,
            "data": self.experiment.data.to_dict(),
            "data_fingerprint": self.prepared.fingerprint,
        }
        groups = {
            "model": self.config.to_dict(),
            "optim": vars(self.experiment.optim),
            "data": vars(self.experiment.data),
        }
        settings = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
        self.curves = Curves(run.log_every, tokens_per_step(self.experiment, self.config), clock)
        self.samples = Samples(run.sample_every, run.sample_prompt, self.prepared.tokenizer, clock)
        self.checkpoints = Checkpoints(
            self.folder / "checkpoints", every=run.save_every, keep=run.keep, header=header, clock=clock
        )
        self.stop = StopOnSignal(self.checkpoints, run.log_every)
        self.callbacks: list[pl.Callback] = [
            FiniteGuard(run.log_every),
            self.curves,
            PeriodicValidation(run.eval_every, clock),
            self.samples,
            self.checkpoints,  # Lightning calls it last
            self.stop,
            Outcome(self.experiment.yaml, settings, self.checkpoints),
        ]

    def _build_trainer(self) -> pl.Trainer:
        settings = dict(self.experiment.trainer)
        bar = settings.pop("enable_progress_bar", None)
        if bar is not False:
            self.callbacks.insert(-2, ProgressBar(self.curves, self.console))
        return pl.Trainer(
            **{
                **settings,
                "logger": self._loggers(settings.pop("logger", None)),
                "callbacks": self.callbacks + _listed(settings.pop("callbacks", None)),
                "plugins": [AtomicCheckpointIO(), *_listed(settings.pop("plugins", None))],
            },
            max_epochs=-1,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            val_check_interval=_NEVER,
            check_val_every_n_epoch=None,
            log_every_n_steps=self.experiment.run.log_every,
            use_distributed_sampler=False,
        )

    def _loggers(self, wanted: Any) -> list[Any]:
        """TensorBoard and metrics.csv, and what the config adds; `trainer.logger: false` means none at all."""
        if wanted is False:
            return []
        resume_step = self.start.step if self.start.folder else None
        ours = [RunTensorBoard(self.folder, resume_step), MetricsFile(self.folder / "metrics.csv", resume_step)]
        return [*ours, *(_listed(wanted) if wanted is not True else [])]

    def _device(self) -> str:
        strategy, precision = self.trainer.strategy, self.trainer.precision
        count = self.trainer.world_size
        return (
            f"{count} x {strategy.root_device.type}, {precision}"
            if count > 1
            else f"{strategy.root_device}, {precision}"
        )


def prepare(experiment: Experiment, start: Start, console: Console) -> Prepared:
    """The shards of the experiment's corpus, in the tokens of the checkpoint that it goes on from."""
    options = experiment.data.prepare_options()
    tokenizer = None
    if start.checkpoint:
        changes = data_changes(experiment, start.checkpoint)
        for key in ("tokenizer", "vocab_size", "unknown"):
            if key in changes:
                then, now = changes[key]
                raise ConfigError(f"data.{key}={now} differs from {then} in the checkpoint {start.checkpoint.path}")
        if changes:  # another text: its own tokens would mean nothing to the weights
            tokenizer = start.checkpoint.tokenizer
    prepared = prepare_cached(options, progress=console.is_terminal, tokenizer=tokenizer)
    if start.checkpoint and prepared.tokenizer.fingerprint != start.checkpoint.tokenizer.fingerprint:
        prepared = prepare_cached(options, progress=console.is_terminal, tokenizer=start.checkpoint.tokenizer)
    if start.checkpoint and prepared.fingerprint != start.checkpoint.data_fingerprint:
        console.print("the text is not the one that the checkpoint was trained on: the curve goes on with other data")
    return prepared


def model_config(experiment: Experiment, prepared: Prepared) -> GPTConfig:
    """The model's config with the tokenizer's vocabulary, padded up to `data.vocab_multiple`."""
    multiple = experiment.data.vocab_multiple
    return GPTConfig(vocab_size=-(-prepared.tokenizer.vocab_size // multiple) * multiple, **experiment.model)


def padded_bytes(prepared: Prepared, config: GPTConfig) -> Any:
    """Bytes of each token (V,), 0 for the ids that only pad the vocabulary."""
    token_bytes = prepared.tokenizer.token_bytes()
    return np.pad(token_bytes, (0, config.vocab_size - len(token_bytes)))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]

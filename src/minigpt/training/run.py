"""The folder, the callbacks and the Trainer of one run, put together."""

import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import lightning.pytorch as pl
from filelock import FileLock, Timeout
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.text import Text

from minigpt.data.prepared import Prepared
from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token
from minigpt.runs.ownership import is_run_file
from minigpt.runs.paths import (
    CHECKPOINTS,
    CONFIG,
    DIVERGENCES,
    LOCK,
    LOCK_PATIENCE,
    METRICS,
    PROVENANCE,
    TOKENIZER,
    step_paths,
)
from minigpt.runs.provenance import describe
from minigpt.runs.status import TAKEN
from minigpt.system.files import atomic_write, remove_leftovers
from minigpt.system.precision import full_name
from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.callbacks.clock import TrainingClock
from minigpt.training.callbacks.curves import Curves
from minigpt.training.callbacks.divergence_guard import DivergenceGuard
from minigpt.training.callbacks.early_end import FreshTimers, early_end
from minigpt.training.callbacks.failures import in_one_line
from minigpt.training.callbacks.hyperparameters import RunCard
from minigpt.training.callbacks.overhead import GarbageCollector, garbage_on_demand, without_empty_hooks
from minigpt.training.callbacks.progress import ProgressBar
from minigpt.training.callbacks.samples import Samples
from minigpt.training.callbacks.slurm import requeue, warning_signal
from minigpt.training.callbacks.stop import StopOnSignal, Stopped
from minigpt.training.callbacks.validation import PeriodicValidation
from minigpt.training.changes import config_changes
from minigpt.training.config import Experiment
from minigpt.training.datamodule import TokenDataModule
from minigpt.training.folders import give_back, record_end, set_aside, take_folder, write_run
from minigpt.training.last import resume_command
from minigpt.training.loggers.metrics_file import MetricsFile
from minigpt.training.loggers.tensorboard import RunTensorBoard
from minigpt.training.loop import StepLoop
from minigpt.training.module import GPTModule
from minigpt.training.report import print_end, print_start, tokens_per_step
from minigpt.training.resume import Start
from minigpt.training.trainer import build_trainer, describe_trainer, listed
from minigpt.training.world import World

if TYPE_CHECKING:
    from minigpt.training.panels.table import Panels


class Run:
    """The folder, the callbacks and the Trainer of one run."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        world: World,
        config: GPTConfig,
        prepared: Prepared,
        start: Start,
        command: Sequence[str],
        console: Console,
    ) -> None:
        self.experiment = experiment
        self.world = world
        self.config = config
        self.prepared = prepared
        self.start = start
        self.console = console
        self.changes = config_changes(experiment, start.resumed) if start.resumed else start.changes
        """What is otherwise than in the checkpoint, or in the folder, that this run goes on with."""
        self.provenance = {
            **describe(command),
            "data_fingerprint": prepared.fingerprint,
            "texts": prepared.identity.texts,
            "loses": None if prepared.loss is None else str(prepared.loss) if prepared.loss else "",
            "from_step": start.step,
            "parent": str(start.checkpoint.path) if start.checkpoint else None,
            "weights_only": start.weights_only,
            "changes": {key: list(values) for key, values in self.changes.items()},
        }
        self.early: str | None = None
        """Why and where training ended before its last step."""
        self.folder = self._take_folder()
        """As the user names it, for what is said."""
        self.place = self.folder.absolute()
        """The same for what is written: a callback of the user's may change the working folder."""
        try:
            self._build_callbacks()
            self.trainer = build_trainer(
                self.experiment, self.world, self.place, callbacks=self.callbacks, loggers=self._loggers()
            )
            self.trainer.fit_loop.epoch_loop = StepLoop(self.trainer, self._at_early_end)
            self.provenance |= describe_trainer(self.trainer)  # the header of the checkpoints holds this very dict
        except BaseException:
            if self.start.folder is None and self.world.is_main:
                give_back(self.place)
            raise

    def train(self, module: GPTModule, data: TokenDataModule) -> int:
        """Train to the last step; gives the exit code. Nobody else can train in this folder meanwhile."""
        if not self.world.is_main:
            return self._train(module, data)
        try:
            with FileLock(self.place / LOCK, timeout=LOCK_PATIENCE):
                return self._train_or_undo(module, data)
        except Timeout as error:
            raise ConfigError(f"{self.folder}: {TAKEN}") from error
        except BaseException:
            if self.start.folder is None and self._is_before_first_step:
                give_back(self.place)
            raise

    @property
    def _is_before_first_step(self) -> bool:
        return bool(self.trainer.global_step <= self.start.step)

    def _train_or_undo(self, module: GPTModule, data: TokenDataModule) -> int:
        """Train; where it ends before its first step, a run that it was to go on with is left as it was."""
        if self.start.folder and self.start.steps != tuple(path.name for path in step_paths(self.place / CHECKPOINTS)):
            raise ConfigError(f"{self.folder}: another process has trained in this folder meanwhile: start again")
        described = [self.place / name for name in (CONFIG, TOKENIZER, PROVENANCE)]
        before = {path: path.read_bytes() for path in described if path.exists()}
        try:
            return self._train(module, data)
        except BaseException as error:
            if isinstance(error, Exception):
                record_end(self.place, error=str(error) or type(error).__name__)
            if self.start.folder and self.start.checkpoint and self._is_before_first_step:
                for path, content in before.items():
                    atomic_write(path, content)
            raise

    def _train(self, module: GPTModule, data: TokenDataModule) -> int:
        if self.world.is_main:
            self._set_aside()
        print_start(
            self.console,
            self.experiment,
            self.config,
            self.prepared,
            device=self._device(),
            folder=self.folder,
            start=self.start,
            changes=self.changes,
        )
        if self.world.is_main:  # the others hold no lock, and may not even know which folder this run took
            for name in ("", CHECKPOINTS, DIVERGENCES):
                remove_leftovers(self.place / name, partial(is_run_file, inside=name))
        checkpoint = str(self.start.resumed.path.absolute()) if self.start.resumed else None
        try:
            callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
            with (
                in_one_line(self.checkpoints),
                self.stop.listening(),
                without_empty_hooks(callbacks),
                garbage_on_demand(),
            ):
                self.trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        except Stopped as stopped:
            self.trainer.profiler.describe()  # type: ignore[attr-defined]  # Lightning does so at a last step alone
            self.console.print(
                f"{stopped}; its checkpoint is written: {resume_command(self.folder)} goes on", highlight=False
            )
            if stopped.signal_number == self.stop.warning and self.world.is_main and (line := requeue(self.world)):
                self.console.print(line, highlight=False)
            return 128 + stopped.signal_number
        except SystemExit:
            if self.stop.received is None:
                raise
            return 128 + signal.SIGINT  # the second Ctrl-C
        finally:
            data.end_workers()
        self._tell_end()
        return 0

    def _tell_end(self) -> None:
        """The closing lines; an early end is recorded too."""
        if early := self.early or early_end(self.trainer):
            self.console.print(Text(f"stopped early: {early}; {resume_command(self.folder)} goes on"))
            if self.world.is_main:
                record_end(self.place, stopped_early=early)
        if self.guard.skipped:
            self.console.print(f"skipped  {self.guard.skipped} steps that diverged: {self.folder / DIVERGENCES}")
        if self.panels and self.panels.costs:
            self.console.print(f"panels   {self.panels.summary()}", highlight=False)
        prompt = self.experiment.run.sample_prompt
        print_end(self.console, self.folder, self.checkpoints, self.samples.latest, prompt)

    def _take_folder(self) -> Path:
        """The folder to go on in or a new one; only the first process takes it, and the others never write."""
        run = self.experiment.run
        wanted = Path(run.root) / run.name
        if not self.world.is_main:
            return self.start.folder or wanted
        folder = self.start.folder or take_folder(Path(run.root), run.name)
        if self.start.folder is None and folder != wanted:
            self.console.print(f"{wanted} is taken by an earlier run: this one is {folder}", highlight=False)
        return folder

    def _set_aside(self) -> None:
        """Keep what a run that begins anew in its folder had written there."""
        if self.start.folder is not None and self.start.resumed is None:
            earlier = set_aside(self.place)
            kept = f"; what it had written is in {self.folder / earlier.name}" if earlier else ""
            line = f"{self.folder} has no checkpoint yet: beginning anew{kept}"
            self.console.print(line, highlight=False, markup=False)

    def _write(self) -> None:
        """Say in the folder what the run is."""
        write_run(
            self.place,
            config_yaml=self.experiment.yaml,
            tokenizer_json=self.prepared.tokenizer.to_json(),
            provenance=self.provenance,
        )

    def _build_callbacks(self) -> None:
        run, clock, special = self.experiment.run, TrainingClock(), self.prepared.tokenizer.special
        header = {
            "config": self.config.to_dict(),
            "tokenizer": self.prepared.tokenizer.to_json(),
            **({"special_tokens": special.to_dict()} if special.files else {}),
            "provenance": self.provenance,
            "data": self.experiment.data.to_dict(),
            "data_fingerprint": self.prepared.fingerprint,
            "texts": self.prepared.identity.texts,
            "yaml": self.experiment.yaml,
        }
        per_step = tokens_per_step(self.experiment, self.config)
        self.curves = Curves(run.log_every, per_step, flops_per_token(self.config), clock)
        self.samples = Samples(run.sample_every, run.sample_prompt, self.prepared.tokenizer, clock)
        self.panels = self._panels(clock)
        panel_steps = self.panels.intervals.values() if self.panels else ()
        looks = [run.log_every, run.eval_every, run.sample_every, *panel_steps]
        self.guard = DivergenceGuard(
            self.place / DIVERGENCES,
            run.on_divergence,
            run.spike_threshold,
            tokenizer=self.prepared.tokenizer,
            shown=self.folder,
            looks=looks,
            same_run=self.start.folder is not None,
            same_text=self._same("same_training"),
        )
        self.checkpoints = Checkpoints(
            self.place / CHECKPOINTS,
            every=run.save_every,
            keep=run.keep,
            header=header,
            clock=clock,
            check=self.guard.check_weights,
            same_curve=self.start.folder is not None and self._same("same_held_out"),
        )
        self.stop = StopOnSignal(self.checkpoints, run.log_every, warning_signal(self.world))
        theirs = listed(self.experiment.trainer.get("callbacks"))
        wants_bar = self.experiment.trainer.get("enable_progress_bar") is not False
        wants_bar = wants_bar and not any(isinstance(callback, pl.callbacks.ProgressBar) for callback in theirs)
        self.validation = PeriodicValidation(run.eval_every, clock)
        # In this order: what is wrong is found before it is shown, validated, saved; a stop comes after the save.
        self.callbacks: list[pl.Callback] = [
            FreshTimers(),
            RunCard(self.experiment, self.config, self._write),
            self.guard,
            self.curves,
            *([ProgressBar(self.curves, self.console)] if wants_bar else []),
            self.validation,
            self.samples,
            *([self.panels] if self.panels else []),
            self.checkpoints,
            self.stop,
            GarbageCollector(),
        ]

    def _panels(self, clock: TrainingClock) -> "Panels | None":
        """The panels of the run; without any nothing of them is imported, matplotlib neither."""
        if not self.experiment.run.panels:
            return None
        from minigpt.training.panels.build import build_panels

        return build_panels(self.experiment, self.config, self.prepared, clock)

    def _same(self, text: Literal["same_training", "same_held_out"]) -> bool:
        """Whether losses of the checkpoint on that text compare with those to come: it is known to be the same one."""
        before = self.start.resumed
        return before is not None and getattr(before.identity, text)(self.prepared.identity) is True

    def _at_early_end(self, trainer: pl.Trainer) -> None:
        """Validate and save where a time limit or a callback stops the run; the reason is the one from before that."""
        self.early = early_end(trainer)
        self.validation.on_train_end(trainer, trainer.lightning_module)
        self.checkpoints.on_train_end(trainer, trainer.lightning_module)

    def _loggers(self) -> list[Logger]:
        """TensorBoard and metrics.csv, and what the config adds; `trainer.logger: false` means none at all."""
        wanted = self.experiment.trainer.get("logger")
        if wanted is False:
            return []
        resume_step = self.start.step if self.start.folder and self.start.resumed and self.world.is_main else None
        ours = [RunTensorBoard(self.place, resume_step), MetricsFile(self.place / METRICS, resume_step)]
        return [*ours, *(listed(wanted) if wanted is not True else [])]

    def _device(self) -> str:
        strategy, precision = self.trainer.strategy, str(self.trainer.precision)
        wanted = self.experiment.trainer["precision"]
        if full_name(wanted) == "16-mixed" and precision != "16-mixed":  # Lightning's choice on a CPU
            precision += f" (trainer.precision={wanted} needs a GPU)"
        count = self.trainer.world_size
        return (
            f"{count} x {strategy.root_device.type}, {precision}"
            if count > 1
            else f"{strategy.root_device}, {precision}"
        )

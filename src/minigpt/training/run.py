"""One run: its folder, its callbacks and its Trainer put together, and what happens until its last line."""

import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
from filelock import FileLock, Timeout
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.text import Text

from minigpt.data.prepared import Prepared
from minigpt.errors import ConfigError
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.runs.code import changed_files
from minigpt.runs.ownership import is_run_file
from minigpt.runs.paths import CHECKPOINTS, DIVERGENCES, LOCK, LOCK_PATIENCE, METRICS, step_paths
from minigpt.runs.provenance import describe
from minigpt.runs.status import TAKEN
from minigpt.system.components import file_hashes
from minigpt.system.files import remove_leftovers
from minigpt.training.callbacks.build import build_callbacks
from minigpt.training.callbacks.early_end import early_end
from minigpt.training.callbacks.evaluations import Evaluation
from minigpt.training.callbacks.failures import in_one_line
from minigpt.training.callbacks.overhead import garbage_on_demand, without_empty_hooks
from minigpt.training.callbacks.stop import Stopped, requeue
from minigpt.training.changes import config_changes
from minigpt.training.config import Experiment
from minigpt.training.datamodule import TokenDataModule
from minigpt.training.folders import (
    description_of,
    give_back,
    record_end,
    restore_description,
    set_aside,
    take_folder,
    write_run,
)
from minigpt.training.last import resume_command
from minigpt.training.loggers.metrics_file import MetricsFile
from minigpt.training.loggers.tensorboard import RunTensorBoard
from minigpt.training.loop import StepLoop
from minigpt.training.module import GPTModule
from minigpt.training.report import print_end, print_start
from minigpt.training.resume import Start
from minigpt.training.trainer import build_trainer, describe_trainer, device_text, listed
from minigpt.training.world import World


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
        files: Mapping[str, Path],
        evaluations: dict[str, Evaluation],
    ) -> None:
        """`files` are the user's own, by the names that their copies get; `evaluations` by their labels."""
        self.experiment = experiment
        self.world = world
        self.config = config
        self.prepared = prepared
        self.start = start
        self.console = console
        self.files = files
        self.changes = config_changes(experiment, start.resumed) if start.resumed else start.changes
        """Settings that differ from the checkpoint, or the folder, that this run resumes."""
        hashes = file_hashes(files)
        recorded = start.resumed.provenance.get("files") if start.resumed else None
        self.changed_files = changed_files(recorded, hashes)
        self.provenance = {
            **describe(command),
            "data_fingerprint": prepared.fingerprint,
            "texts": prepared.identity.texts,
            "loses": None if prepared.loss is None else str(prepared.loss) if prepared.loss else "",
            "from_step": start.step,
            "parent": str(start.checkpoint.path) if start.checkpoint else None,
            "weights_only": start.weights_only,
            "changes": {key: list(values) for key, values in {**self.changes, **self.changed_files}.items()},
            "files": hashes,
            "parameters": parameter_count(config),
            "flops_per_token": flops_per_token(config),
        }
        self.early: str | None = None
        """Why and where training ended before its last step."""
        self.folder = self._take_folder()
        """As the user names it, for what is said."""
        self.place = self.folder.absolute()
        """The same for what is written: a callback of the user's may change the working folder."""
        try:
            self.callbacks = build_callbacks(
                experiment,
                config,
                prepared,
                start=start,
                world=world,
                folder=self.place,
                shown=self.folder,
                provenance=self.provenance,
                evaluations=evaluations,
                write=self._write,
                console=console,
            )
            self.trainer = build_trainer(
                experiment, world, self.place, callbacks=self.callbacks.in_order, loggers=self._loggers()
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
        before = description_of(self.place)
        try:
            return self._train(module, data)
        except BaseException as error:
            if isinstance(error, Exception):
                record_end(self.place, error=str(error) or type(error).__name__)
            if self.start.folder and self.start.checkpoint and self._is_before_first_step:
                restore_description(self.place, before)
            raise

    def _train(self, module: GPTModule, data: TokenDataModule) -> int:
        if self.world.is_main:
            self._set_aside()
        print_start(
            self.console,
            self.experiment,
            self.config,
            self.prepared,
            device=device_text(self.trainer, self.experiment.trainer["precision"]),
            folder=self.folder,
            start=self.start,
            changes=self.changes,
            changed_files=self.changed_files,
        )
        if self.world.is_main:  # the others hold no lock, and may not even know which folder this run took
            for name in ("", CHECKPOINTS, DIVERGENCES):
                remove_leftovers(self.place / name, partial(is_run_file, inside=name))
        resumed = self.start.resumed.path if self.start.resumed else None
        checkpoint = str(resumed.absolute()) if resumed else None
        try:
            callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # the config's too
            with (
                in_one_line(self.callbacks.checkpoints, self.files.values(), resumed),
                self.callbacks.stop.listening(),
                without_empty_hooks(callbacks),
                garbage_on_demand(),
            ):
                self.trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        except Stopped as stopped:
            self.trainer.profiler.describe()  # type: ignore[attr-defined]  # Lightning does so at a last step alone
            self.console.print(
                f"{stopped}; its checkpoint is written: {resume_command(self.folder)} goes on", highlight=False
            )
            if (
                stopped.signal_number == self.callbacks.stop.warning
                and self.world.is_main
                and (line := requeue(self.world))
            ):
                self.console.print(line, highlight=False)
            return 128 + stopped.signal_number
        except SystemExit:
            if self.callbacks.stop.received is None:
                raise
            return 128 + signal.SIGINT  # the second Ctrl-C
        finally:
            data.end_workers()
        self._report_end()
        return 0

    def _report_end(self) -> None:
        """The closing lines; an early end is recorded too."""
        if early := self.early or early_end(self.trainer):
            self.console.print(Text(f"stopped early: {early}; {resume_command(self.folder)} goes on"))
            if self.world.is_main:
                record_end(self.place, stopped_early=early)
        if self.callbacks.guard.skipped:
            self.console.print(
                f"skipped  {self.callbacks.guard.skipped} steps that diverged: {self.folder / DIVERGENCES}"
            )
        panels, evaluations = self.callbacks.panels, self.callbacks.evaluations
        if panels and panels.costs:
            self.console.print(f"panels   {panels.summary()}", highlight=False)
        print_end(
            self.console,
            self.folder,
            self.callbacks.checkpoints,
            sample=self.callbacks.samples.latest,
            prompt=self.experiment.run.sample_prompt,
            evaluations=evaluations.latest if evaluations else {},
        )

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
            files=self.files,
        )

    def _at_early_end(self, trainer: pl.Trainer) -> None:
        """Validate and save where a time limit or a callback stops the run; the reason is the one from before that."""
        self.early = early_end(trainer)
        self.callbacks.at_early_end(trainer)

    def _loggers(self) -> list[Logger]:
        """TensorBoard and metrics.csv, and what the config adds; `trainer.logger: false` means none at all."""
        wanted = self.experiment.trainer.get("logger")
        if wanted is False:
            return []
        resume_step = self.start.step if self.start.folder and self.start.resumed and self.world.is_main else None
        ours = [RunTensorBoard(self.place, resume_step), MetricsFile(self.place / METRICS, resume_step)]
        return [*ours, *(listed(wanted) if wanted is not True else [])]

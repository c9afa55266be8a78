"""The callbacks of a run, built from its config and put in order."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from rich.console import Console

from minigpt.data.prepared import Prepared
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token
from minigpt.runs.paths import CHECKPOINTS, DIVERGENCES
from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.callbacks.curves import Curves
from minigpt.training.callbacks.divergence_guard import DivergenceGuard
from minigpt.training.callbacks.early_end import FreshTimers
from minigpt.training.callbacks.evaluations import Evaluation, Evaluations
from minigpt.training.callbacks.hyperparameters import LogHyperparameters
from minigpt.training.callbacks.overhead import GarbageCollector
from minigpt.training.callbacks.progress import ProgressBar
from minigpt.training.callbacks.samples import Samples
from minigpt.training.callbacks.stop import StopOnSignal, warning_signal
from minigpt.training.callbacks.validation import PeriodicValidation
from minigpt.training.config import Experiment
from minigpt.training.position import TrainingClock
from minigpt.training.report import tokens_per_step
from minigpt.training.resume import Start
from minigpt.training.trainer import listed
from minigpt.training.world import World

if TYPE_CHECKING:
    from minigpt.training.panels.table import Panels


@dataclass(frozen=True, kw_only=True)
class RunCallbacks:
    """The callbacks of a run that others ask something of, and all of them in order."""

    guard: DivergenceGuard
    curves: Curves
    evaluations: Evaluations | None
    validation: PeriodicValidation
    samples: Samples
    panels: "Panels | None"
    checkpoints: Checkpoints
    stop: StopOnSignal
    in_order: list[pl.Callback]

    def at_early_end(self, trainer: pl.Trainer) -> None:
        """Evaluate, validate and save where a time limit or a callback stops the run."""
        for callback in filter(None, (self.evaluations, self.validation, self.checkpoints)):
            callback.on_train_end(trainer, trainer.lightning_module)


def build_callbacks(
    experiment: Experiment,
    config: GPTConfig,
    prepared: Prepared,
    *,
    start: Start,
    world: World,
    folder: Path,
    shown: Path,
    provenance: dict[str, Any],
    evaluations: dict[str, Evaluation],
    write: Callable[[], None],
    console: Console,
) -> RunCallbacks:
    """Build them for a run in `folder`, which messages call `shown`; `write` describes the run in its folder."""
    run, clock, tokenizer = experiment.run, TrainingClock(), prepared.tokenizer
    panels = _panels(experiment, config, prepared, clock)
    evaluate_every = (run.evaluate_every or run.eval_every) if evaluations else 0
    panel_steps = panels.intervals.values() if panels else ()
    before = start.resumed
    same_run = start.folder is not None
    guard = DivergenceGuard(
        folder / DIVERGENCES,
        run.on_divergence,
        run.spike_threshold,
        tokenizer=tokenizer,
        shown=shown,
        report_intervals=[run.log_every, run.eval_every, run.sample_every, evaluate_every, *panel_steps],
        same_run=same_run,
        same_text=before is not None and before.identity.same_training(prepared.identity) is True,
    )
    curves = Curves(run.log_every, tokens_per_step(experiment, config), flops_per_token(config), clock)
    checkpoints = Checkpoints(
        folder / CHECKPOINTS,
        every=run.save_every,
        keep=run.keep,
        header=_header(experiment, config, prepared, provenance),
        clock=clock,
        check=guard.check_weights,
        same_curve=same_run and before is not None and before.identity.same_held_out(prepared.identity) is True,
    )
    evaluating = None
    if evaluations:
        evaluating = Evaluations(
            evaluations,
            evaluate_every,
            tokenizer,
            curves=curves,
            checkpoints=checkpoints,
            seed=experiment.seed_everything,
        )
    validation = PeriodicValidation(run.eval_every, clock)
    samples = Samples(run.sample_every, run.sample_prompt, tokenizer, clock)
    stop = StopOnSignal(checkpoints, run.log_every, warning_signal(world))
    # In this order: a fault is found before it is shown, evaluated, validated, saved; a stop comes after the save.
    in_order: list[pl.Callback | None] = [
        FreshTimers(),
        LogHyperparameters(experiment, config, write),
        guard,
        curves,
        ProgressBar(curves, console) if _wants_bar(experiment) else None,
        evaluating,
        validation,
        samples,
        panels,
        checkpoints,
        stop,
        GarbageCollector(),
    ]
    return RunCallbacks(
        guard=guard,
        curves=curves,
        evaluations=evaluating,
        validation=validation,
        samples=samples,
        panels=panels,
        checkpoints=checkpoints,
        stop=stop,
        in_order=[callback for callback in in_order if callback is not None],
    )


def _header(
    experiment: Experiment, config: GPTConfig, prepared: Prepared, provenance: dict[str, Any]
) -> dict[str, Any]:
    """The entry of each checkpoint beside the weights, so that the file alone says how to use them."""
    special = prepared.tokenizer.special
    return {
        "config": config.to_dict(),
        "tokenizer": prepared.tokenizer.to_json(),
        **({"special_tokens": special.to_dict()} if special.files else {}),
        "provenance": provenance,
        "data": experiment.data.to_dict(),
        "data_fingerprint": prepared.fingerprint,
        "texts": prepared.identity.texts,
        "yaml": experiment.yaml,
    }


def _wants_bar(experiment: Experiment) -> bool:
    """Whether the run shows minigpt's progress bar: unless it is switched off, or the config brings its own."""
    theirs = listed(experiment.trainer.get("callbacks"))
    has_own = any(isinstance(callback, pl.callbacks.ProgressBar) for callback in theirs)
    return experiment.trainer.get("enable_progress_bar") is not False and not has_own


def _panels(experiment: Experiment, config: GPTConfig, prepared: Prepared, clock: TrainingClock) -> "Panels | None":
    """The panels of the run; without any nothing of them is imported, matplotlib neither."""
    if not experiment.run.panels:
        return None
    from minigpt.training.panels.build import build_panels

    return build_panels(experiment, config, prepared, clock)

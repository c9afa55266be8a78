"""Evaluations of a run: callables (model, tokenizer) -> {name: number}, the built-in ones and the user's own."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import ConfigError, TrainingError, shown
from minigpt.model.gpt import GPT
from minigpt.system.components import error_line, import_component
from minigpt.system.randomness import separate_random_state
from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.callbacks.curves import Curves
from minigpt.training.config import EVALUATIONS, evaluation_label
from minigpt.training.module import GPTModule
from minigpt.training.position import EveryStep

Evaluation = Callable[[GPT, Tokenizer], Mapping[str, Any]]


def build_evaluations(names: Sequence[str]) -> dict[str, Evaluation]:
    """The evaluations by their labels; a class is made an instance, without arguments.

    Raises ConfigError for what cannot be imported or called, with the user's line where it fails.
    """
    return {evaluation_label(name): _build(name) for name in names}


def _build(name: str) -> Evaluation:
    component = import_component("run.evaluations", EVALUATIONS.get(name, name))
    if isinstance(component, type):
        try:
            component = component()
        except Exception as error:  # the user's code may raise anything
            raise ConfigError(f"run.evaluations={name}: {error_line(error)}") from error
    if not callable(component):
        raise ConfigError(
            f"run.evaluations={name} is {shown(component)}, and must be called with a model and a tokenizer"
        )
    return component


def evaluate(label: str, evaluation: Evaluation, model: GPT, tokenizer: Tokenizer) -> dict[str, float]:
    """The numbers of one evaluation as curves, `eval/LABEL/NAME`. TrainingError with the user's line where it fails."""
    try:
        found = evaluation(model, tokenizer)
    except Exception as error:  # the user's code may raise anything
        raise TrainingError(f"the evaluation {label}: {error_line(error)}") from error
    if not isinstance(found, Mapping):
        raise TrainingError(f"the evaluation {label} must give a mapping of names to numbers, not {shown(found)}")
    numbers: dict[str, float] = {}
    for name, value in found.items():
        is_number = isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
        if not is_number or isinstance(value, bool) or not isinstance(name, str):
            raise TrainingError(
                f"the evaluation {label} must give a mapping of names to numbers, not {shown(name)}: {shown(value)}"
            )
        numbers[f"eval/{label}/{name}"] = float(value)
    return numbers


class Evaluations(EveryStep):
    """Run the evaluations every N steps and at the last one, before the validation and the checkpoint of that step.

    The model is in eval mode, without gradients, and all random numbers begin at the run's seed each time and are as
    before afterwards: an evaluation changes no bit of the training. With several processes the first one evaluates.
    """

    def __init__(
        self,
        evaluations: Mapping[str, Evaluation],
        every: int,
        tokenizer: Tokenizer,
        *,
        curves: Curves,
        checkpoints: Checkpoints,
        seed: int,
    ) -> None:
        self.evaluations = evaluations
        self.every = every
        self.tokenizer = tokenizer
        self.curves = curves
        self.checkpoints = checkpoints
        self.seed = seed
        self.last = -1
        """The step of the newest evaluation."""
        self.latest: dict[str, float] = {}
        """Its numbers, by their curves."""

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Evaluate at every N-th step and at the last one."""
        if step % self.every == 0 or step == trainer.max_steps:
            self.run(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate at the end of a run that was stopped early."""
        if self.last != trainer.global_step:
            self.run(trainer)

    def run(self, trainer: Trainer) -> None:
        """Evaluate now; where an evaluation fails, save this step, which is whole, and raise TrainingError."""
        module = trainer.lightning_module
        assert isinstance(module, GPTModule)
        self.last = trainer.global_step
        outcome: dict[str, float] | TrainingError = {}
        if trainer.is_global_zero:
            with self.curves.clock.pause():
                outcome = self._evaluate(module)
        if trainer.world_size > 1:  # the others wait here, and learn the numbers: their callbacks may monitor them
            outcome = trainer.strategy.broadcast(outcome)
        if isinstance(outcome, TrainingError):
            self.checkpoints.save(trainer, rolling=True)
            raise outcome if trainer.is_global_zero else SystemExit(TrainingError.exit_code)
        self.latest = outcome
        self.curves.write(trainer, outcome)

    def _evaluate(self, module: GPTModule) -> dict[str, float] | TrainingError:
        modes = {each: each.training for each in module.gpt.modules()}
        numbers: dict[str, float] = {}
        try:
            for label, evaluation in self.evaluations.items():
                module.gpt.eval()
                with torch.no_grad(), separate_random_state(self.seed, module.device):
                    numbers |= evaluate(label, evaluation, module.gpt, self.tokenizer)
        except TrainingError as error:
            return error
        finally:
            for each, training in modes.items():
                each.training = training
        return numbers

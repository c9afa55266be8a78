"""Validation every N optimizer steps, and at the last one."""

import gc

from lightning.pytorch import LightningModule, Trainer

from minigpt.training.position import EveryStep, TrainingClock


class PeriodicValidation(EveryStep):
    """Run the Trainer's own validation loop when a step is due.

    Lightning's interval counts batches, not steps, leaves out the last step, and comes after the checkpoint of the same
    step: a kill between the two would lose the point. Here validation stands before the checkpoint, always.
    """

    def __init__(self, every: int, clock: TrainingClock) -> None:
        self.every = every
        self.clock = clock
        self.last = -1
        """The step of the newest validation."""

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Validate at every N-th step and at the last one."""
        if step % self.every == 0 or step == trainer.max_steps:
            self.run(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate at the end of a run that was stopped early, by `trainer.max_time` or a callback."""
        if self.last != trainer.global_step:
            self.run(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step, also when it was Lightning that validated."""
        self.last = trainer.global_step

    def run(self, trainer: Trainer) -> None:
        """Run the validation loop once from within training, as the training loop itself would start it."""
        loop = trainer.fit_loop.epoch_loop
        first_iteration = trainer._logger_connector._first_loop_iter
        trainer.validating = True
        with self.clock.pause():
            loop.val_loop.run()
            gc.collect()  # during the steps nobody does
        trainer.training = True
        trainer._logger_connector._first_loop_iter = first_iteration

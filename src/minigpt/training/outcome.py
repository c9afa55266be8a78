"""What a run was and what came of it, for TensorBoard."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from minigpt.training.checkpoints import Checkpoints
from minigpt.training.tensorboard import RunTensorBoard


class Outcome(Callback):
    """Show the config as text at the start, and at the end the settings with the best and the last validation loss."""

    def __init__(self, config_yaml: str, settings: dict[str, Any], checkpoints: Checkpoints) -> None:
        self.config_yaml = config_yaml
        self.settings = settings
        self.checkpoints = checkpoints

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the config that this session runs with."""
        for logger in _boards(trainer):
            logger.log_text("config", self.config_yaml, trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the losses beside the settings."""
        losses = {
            "final/best_val_loss": self.checkpoints.best_loss,
            "final/val_loss": self.checkpoints.val_loss(trainer.global_step),
        }
        known = {name: loss for name, loss in losses.items() if loss is not None}
        for logger in _boards(trainer):
            logger.log_outcome(self.settings, known, trainer.global_step)
            logger.save()


def _boards(trainer: Trainer) -> list[RunTensorBoard]:
    return [logger for logger in trainer.loggers if isinstance(logger, RunTensorBoard)]

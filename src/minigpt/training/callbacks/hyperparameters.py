"""Log the hyper-parameters: files in the run's folder, the config as text and the HPARAMS tab in TensorBoard."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from minigpt.model.config import GPTConfig
from minigpt.training.config import Experiment
from minigpt.training.loggers.event_files import CONFIG_TAG
from minigpt.training.loggers.tensorboard import RunTensorBoard

_DATA = ("corpus", "tokenizer", "vocab_size", "batch_size")


class LogHyperparameters(Callback):
    """Show the config and the settings when training starts, so that a run which is killed can still be compared."""

    def __init__(self, experiment: Experiment, config: GPTConfig, write: Callable[[], None]) -> None:
        """`write` writes config.yaml and its like into the run's folder."""
        self.write = write
        self.config_yaml = experiment.yaml
        data = {name: value for name, value in experiment.data.to_dict().items() if name in _DATA}
        groups: dict[str, dict[str, Any]] = {"model": config.to_dict(), "optim": vars(experiment.optim), "data": data}
        self.settings = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml, now that all processes are here: each has read the one of the run that it goes on with,
        and would apply a `--trainer.callbacks+=` of the command line a second time to the new one."""
        if trainer.is_global_zero:
            self.write()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both for TensorBoard."""
        for logger in trainer.loggers:
            if isinstance(logger, RunTensorBoard):
                logger.log_text(CONFIG_TAG, self.config_yaml, trainer.global_step)
                logger.log_settings(self.settings, ["val/loss", "val/bits_per_byte"])

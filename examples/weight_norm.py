"""A callback: the norm of all weights as a curve.

cd examples && minigpt fit --config base --trainer.callbacks+=weight_norm.WeightNorm --trainer.callbacks.every 2
"""

import torch
from lightning.pytorch import LightningModule, Trainer

from minigpt.training.position import EveryStep


class WeightNorm(EveryStep):
    """Writes `weights/norm` to TensorBoard and metrics.csv. EveryStep calls `on_step` once an optimizer step.

    It reads the weights, draws no random number and keeps no state: a run with it has the same bits as one without.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = every

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Called when `step` optimizer steps are done."""
        if step % self.every == 0:
            norms = [parameter.detach().norm() for parameter in pl_module.parameters()]
            for logger in trainer.loggers:
                logger.log_metrics({"weights/norm": float(torch.stack(norms).norm())}, step)

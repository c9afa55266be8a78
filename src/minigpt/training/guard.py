"""Stop a run whose loss or weights are no longer numbers, before it overwrites a good checkpoint."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from minigpt.errors import TrainingError
from minigpt.training.module import GPTModule
from minigpt.training.position import EveryStep


class FiniteGuard(EveryStep):
    """Watch the loss of every step without waiting for the device: it is read at log steps only, on a CPU at every
    step."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._first_bad: Tensor | None = None

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Note the first step whose loss or gradient is no number, and stop when that is read, all ranks together."""
        assert isinstance(pl_module, GPTModule)
        signs = pl_module.step_loss
        # Under fp16 an infinite gradient is everyday: the scaler skips the step and lowers its scale.
        if pl_module.grad_norm is not None and trainer.precision != "16-mixed":
            signs = signs + pl_module.grad_norm
        if self._first_bad is None:
            self._first_bad = torch.full((), -1, dtype=torch.int64, device=signs.device)
        newly_bad = ~torch.isfinite(signs) & (self._first_bad < 0)
        self._first_bad = torch.where(newly_bad, step, self._first_bad)
        alone = trainer.world_size == 1
        if (alone and signs.device.type == "cpu") or step % self.every == 0 or step == trainer.max_steps:
            first = int(self._first_bad)
            if trainer.strategy.reduce_boolean_decision(first >= 0, all=False):
                where = f"at step {first}" if first >= 0 else f"on another rank, at or before step {step}"
                raise TrainingError(f"the loss or its gradient is not finite {where} {_advice(pl_module.optim.lr)}")


def check_weights(trainer: Trainer) -> None:
    """Raise TrainingError if any weight is not finite: such a checkpoint must not be written."""
    module = trainer.lightning_module
    assert isinstance(module, GPTModule)
    norm = torch.nn.utils.get_total_norm(list(module.parameters()))
    if not torch.isfinite(norm):
        step = trainer.global_step
        raise TrainingError(f"the weights are not finite after step {step} {_advice(module.optim.lr)}")


def _advice(lr: float) -> str:
    return (
        f"(optim.lr={lr:g}): nothing was saved since; lower optim.lr or trainer.gradient_clip_val, and go on from the "
        "last checkpoint with --ckpt_path last"
    )

"""The curves of a run: what stands in TensorBoard and metrics.csv, with x = optimizer steps done."""

import torch
from lightning.pytorch import LightningModule, Trainer

from minigpt.system.utilisation import find_peak, utilisation
from minigpt.training.module import GPTModule
from minigpt.training.position import EveryStep, TrainingClock

WALL_CLOCK = frozenset({"train/tokens_per_second", "train/ms_per_step", "train/mfu"})
"""Curves that measure the machine: no two runs have the same values."""


class Curves(EveryStep):
    """Write the training curves every N steps and the validation curves at every validation.

    All of it happens here and only at log steps, because Lightning's `self.log` costs 0.3 ms a call at every step.
    Reading the loss as a number is the one moment at which the host waits for the device.
    """

    def __init__(self, every: int, tokens_per_step: int, flops_per_token: int, clock: TrainingClock) -> None:
        """`flops_per_token` are those of training on one, of all devices together."""
        self.every = every
        self.tokens_per_step = tokens_per_step
        self.flops_per_token = flops_per_token
        self.clock = clock
        self.latest: dict[str, float] = {}
        """The newest value of each curve, for the progress bar."""
        self._mark = (0, 0.0)
        self._peak = 0.0
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out how fast the device could be, and start the clock."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:  # the only one that writes
            self._peak = trainer.world_size * find_peak(trainer.strategy.root_device, str(trainer.precision)).flops
        self._first = trainer.global_step
        self._mark = (self._first, self.clock.seconds())

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Write the training curves of a log step."""
        if not self._due(trainer, step):
            return
        values = self._training(trainer, pl_module)  # waits for the device, so the time below is true
        self.write(trainer, values | self._speed(step))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Offer this step's training curves to callbacks, which check after validations, whatever `every` is."""
        if trainer.global_step > self._first:
            self._offer(trainer, self._training(trainer, pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the validation curves."""
        names = {"val/loss": "val_loss", "val/perplexity": "val_perplexity", "val/bits_per_byte": "val_bits_per_byte"}
        self.write(trainer, {curve: float(trainer.callback_metrics[name]) for curve, name in names.items()})

    def _training(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """The curves of the newest step but for its speed."""
        assert isinstance(pl_module, GPTModule)
        loss = trainer.strategy.reduce(pl_module.step_loss.clone(), reduce_op="mean")
        values = {"train/loss": float(loss)}
        if pl_module.grad_norm is not None:
            values["train/grad_norm"] = float(pl_module.grad_norm)
        return values | {"train/learning_rate": trainer.optimizers[0].param_groups[0]["lr"]}

    def _speed(self, step: int) -> dict[str, float]:
        """The curves of `WALL_CLOCK` since they were last asked for."""
        now = self.clock.seconds()
        marked_step, marked_time = self._mark
        self._mark = (step, now)
        seconds_per_step = max(now - marked_time, 1e-9) / (step - marked_step)
        rate = self.tokens_per_step / seconds_per_step
        values = {"train/tokens_per_second": rate, "train/ms_per_step": 1000 * seconds_per_step}
        if self._peak:
            values["train/mfu"] = utilisation(self.flops_per_token, rate, self._peak)
        return values

    def _due(self, trainer: Trainer, step: int) -> bool:
        return step % self.every == 0 or step == trainer.max_steps

    def write(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Add points at this step: for the loggers, for callbacks that monitor them, and for the progress bar."""
        self.latest.update(values)
        self._offer(trainer, values)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _offer(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Let callbacks monitor the curves by the names that users see."""
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})

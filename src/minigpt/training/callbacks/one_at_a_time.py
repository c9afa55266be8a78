"""A pause in training every few steps, for somebody else's turn."""

from collections.abc import Callable

from lightning.pytorch import LightningModule, Trainer

from minigpt.training.position import EveryStep


class TurnTaker(EveryStep):
    """Call `between` after the first `warmup` optimizer steps, and then after every `steps`, until it says False."""

    def __init__(self, warmup: int, steps: int, between: Callable[[], bool]) -> None:
        self.due = warmup
        self.steps = steps
        self.between = between
        self.goes_on = True

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Let the others have their turn."""
        if self.goes_on and step == self.due:
            self.due += self.steps
            self.goes_on = self.between()

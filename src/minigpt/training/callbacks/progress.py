"""Where a run stands: step, losses, tokens per second, model FLOPs utilisation and time left, in a bar and in a line
for each validation."""

import time

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.text import Text

from minigpt.system.status_bar import StatusBar, fitted, left_text, shows_bars
from minigpt.system.units import clock_text, rate_text
from minigpt.training.callbacks.curves import Curves
from minigpt.training.position import EveryStep


class ProgressBar(EveryStep):
    """Show where the run stands, from numbers that the curves have read anyway: the device is never asked for more."""

    def __init__(self, curves: Curves, console: Console) -> None:
        self.curves = curves
        self.console = console
        self._bar: StatusBar | None = None
        self._began = (0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar at the step where the run begins."""
        super().on_train_start(trainer, pl_module)
        self._began = (trainer.global_step, time.perf_counter())
        if trainer.is_global_zero and shows_bars(self.console):
            self._bar = StatusBar(self.console)
            self._bar.start()
            self._draw(trainer, trainer.global_step)

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Move the bar."""
        self._draw(trainer, step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a line for each validation above the bar, and show its loss in the bar."""
        if not trainer.is_global_zero:
            return
        width = self.console.width if self.console.is_terminal else None
        line = fitted(self._step(trainer, trainer.global_step), *self._rest(trainer, trainer.global_step), width)
        self.console.print(Text(line), soft_wrap=True)
        self._draw(trainer, trainer.global_step, now=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar as it is: after the end of training a last validation may still have come."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the bar, so that what is said about the exception stands on a line of its own."""
        self._stop()

    def _draw(self, trainer: Trainer, step: int, *, now: bool = False) -> None:
        if self._bar is not None and (now or self._bar.due() or step == trainer.max_steps):
            parts, tail = self._rest(trainer, step)
            self._bar.show(step, trainer.max_steps, head=self._step(trainer, step), parts=parts, tail=tail)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _step(self, trainer: Trainer, step: int) -> str:
        total = f"{trainer.max_steps:,}"
        return f"step {step:>{len(total)},}/{total}"

    def _rest(self, trainer: Trainer, step: int) -> tuple[list[str], str]:
        """The numbers, the most telling first, and the time left; at the end the time that it took."""
        latest, (first, began) = self.curves.latest, self._began
        parts = [
            f"{word} {latest[name]:.4f}"
            for word, name in (("loss", "train/loss"), ("val", "val/loss"))
            if name in latest
        ]
        if "train/tokens_per_second" in latest:
            parts.append(rate_text(latest["train/tokens_per_second"]))
        if "train/mfu" in latest:
            parts.append(f"{latest['train/mfu']:.1%} MFU")
        seconds = time.perf_counter() - began
        took = clock_text(seconds)
        if step >= trainer.max_steps:
            return parts, took
        return [*parts, took], left_text(step - first, trainer.max_steps - first, seconds)

"""The progress bar: step, loss, validation loss, tokens per second, model FLOPs utilisation and time left; plain lines
where there is no terminal."""

import time

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from minigpt.training.curves import Curves
from minigpt.training.position import EveryStep

_REFRESH_SECONDS = 0.2


class ProgressBar(EveryStep):
    """Show where the run stands, from numbers that the curves have read anyway: the device is never asked for more."""

    def __init__(self, curves: Curves, console: Console) -> None:
        self.curves = curves
        self.console = console
        self._bar: Progress | None = None
        self._shown = 0.0
        self._began = (0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the bar at the step where the run begins."""
        super().on_train_start(trainer, pl_module)
        self._began = (trainer.global_step, time.perf_counter())
        if not trainer.is_global_zero or not self.console.is_terminal or self.console.quiet:
            return
        self._bar = Progress(
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console,
            auto_refresh=False,
            speed_estimate_period=30,
            expand=True,
        )
        self._task = self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
        self._bar.start()

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Move the bar, a few times a second at most."""
        now = time.perf_counter()
        if self._bar is None or (now - self._shown < _REFRESH_SECONDS and step != trainer.max_steps):
            return
        self._shown = now
        self._bar.update(self._task, completed=step, description=self._numbers())
        self._bar.refresh()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave a line for each validation above the bar."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        first, began = self._began
        seconds = time.perf_counter() - began
        left = seconds / max(1, step - first) * (trainer.max_steps - step)
        width = len(str(trainer.max_steps))
        times = f"{_clock(seconds)} < {_clock(left)}"
        line = f"step {step:>{width}}/{trainer.max_steps}  {self._numbers()}  {times}"
        self.console.print(line, highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that what is said about the exception stands on a line of its own."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _numbers(self) -> str:
        latest = self.curves.latest
        parts = [
            f"{word} {latest[name]:.4f}"
            for word, name in (("loss", "train/loss"), ("val", "val/loss"))
            if name in latest
        ]
        if "train/tokens_per_second" in latest:
            parts.append(f"{_short(latest['train/tokens_per_second'])} tokens/s")
        if "train/mfu" in latest:
            parts.append(f"{latest['train/mfu']:.1%} MFU")
        return "  ".join(parts)


def _short(number: float) -> str:
    """A number in three digits: 874, 52.1k, 1.31M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

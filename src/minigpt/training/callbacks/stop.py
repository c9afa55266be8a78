"""Ctrl-C, SIGTERM and SLURM's warning: finish the step, save, stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.position import EveryStep

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818  (no error: the user asked for it)
    """A run was stopped by a signal, at the end of a step and with its checkpoint written."""

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name} after step {step}")
        self.signal_number = signal_number
        self.step = step


class StopOnSignal(EveryStep, Checkpoint):
    """Stop at a step's end after a signal: only there is the state exact, whatever the accumulation.

    Being a `Checkpoint`, it is called after all callbacks whose state the checkpoint of that step holds.

    A second Ctrl-C does not wait for the step; after a warning the first one still does. With several processes the
    ranks agree first, at log steps, so that none waits for one that has gone.
    """

    def __init__(self, checkpoints: Checkpoints, every: int, warning: signal.Signals | None = None) -> None:
        """`warning` is a signal beside SIGINT and SIGTERM, unless the process has a handler for it already."""
        self.checkpoints = checkpoints
        self.every = every
        self.warning = warning
        self._signals: tuple[int, ...] = ()
        self.received: int | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals for the length of the block; Python lets the main thread alone do so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        free = self.warning is not None and signal.getsignal(self.warning) in {signal.SIG_DFL, None}
        self._signals = (*_SIGNALS, *([self.warning] if self.warning and free else []))
        before = {number: signal.getsignal(number) for number in self._signals}
        self._listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen again: Lightning has put its own handler of SIGTERM in, which stops amid an accumulation."""
        super().on_train_start(trainer, pl_module)
        self._listen()

    def _listen(self) -> None:
        for number in self._signals:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and self.warning not in {self.received, number}:
            raise KeyboardInterrupt
        self.received = number

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Save and stop, if a signal has come."""
        asked = self.received is not None
        if trainer.world_size > 1:
            asked = step % self.every == 0 and trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            self.checkpoints.save(trainer, rolling=True)
            raise Stopped(self.received or signal.SIGTERM, step)

"""Ctrl-C, SIGTERM and SLURM's warning before the end of a job's time: finish the step, save, stop; requeue the job."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import FrameType

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.position import EveryStep
from minigpt.training.world import World

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
WARNING: signal.Signals | None = getattr(signal, "SIGUSR1", None)
"""What `sbatch --signal=USR1@120` sends two minutes before; None where there is no such signal."""
_INTERACTIVE = {"bash", "interactive"}
"""Names that SLURM gives to jobs of a person at a terminal: nobody would start the command again."""
_PATIENCE = 60.0
"""Seconds for scontrol to answer."""


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


def warning_signal(world: World) -> signal.Signals | None:
    """The signal of the warning: SIGUSR1, or what the config's SLURMEnvironment says."""
    environment = world.environment
    return environment.requeue_signal if isinstance(environment, SLURMEnvironment) else WARNING


def requeue(world: World) -> str | None:
    """Put this job of SLURM into the queue again; gives what came of it, as a line, or None outside a job.

    Not for tasks of one `srun` that train runs of their own: the others may still be saving.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or not world.requeue or os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return None
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    if os.environ.get("SLURM_NTASKS", "1") not in {"1", str(world.size)}:
        return f"job {job} has other tasks, which may still be saving: scontrol requeue {job} starts it again"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], check=False, capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"job {job} is not requeued: scontrol: {error}"
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()
        return f"job {job} is not requeued: {reason[0] if reason else f'scontrol ended with code {done.returncode}'}"
    return f"job {job} is requeued"

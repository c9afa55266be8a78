"""SLURM's warning before the end of a job's time: the run has saved, and the job goes back into the queue."""

import os
import signal
import subprocess

from lightning.fabric.plugins.environments import SLURMEnvironment

from minigpt.training.world import World

WARNING: signal.Signals | None = getattr(signal, "SIGUSR1", None)
"""What `sbatch --signal=USR1@120` sends two minutes before; None where there is no such signal."""
_INTERACTIVE = {"bash", "interactive"}
"""Names that SLURM gives to jobs of a person at a terminal: nobody would start the command again."""
_PATIENCE = 60.0
"""Seconds for scontrol to answer."""


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

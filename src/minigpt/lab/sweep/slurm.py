"""Run cells as tasks of a SLURM job array: write its script and print the command that submits it."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from minigpt.errors import ConfigError
from minigpt.lab.sweep.job import Job
from minigpt.lab.sweep.slots import TASK_CPUS
from minigpt.system.files import atomic_write

SCRIPT = "slurm.sh"
_SAVE_SECONDS = 120
"""Seconds between SLURM's signal and the end of a job's time."""
_GPU_ACCELERATORS = {"gpu", "cuda"}


def write_script(job: Job) -> int:
    """Write the script for the cells that are still to be run, and print how to submit it; returns 0.

    The number of a task is the fixed position of the cell in sweep.json. A task decides what to do when it starts: a
    finished cell is left alone, an unfinished one is resumed, so the script may be submitted again.
    """
    if job.folder.sweep.search:
        raise ConfigError("--engine slurm needs all cells in advance: run a search with --engine local or ray")
    output = _output(job.folder.path.absolute())  # sbatch may be called from anywhere
    with job.folder.locked():
        names = list(job.folder.records)
        numbers = [names.index(cell.name) for cell in job.to_do()]
        if not numbers:
            job.console.print("nothing is left to run")
            return 0
        path = job.folder.path / SCRIPT
        atomic_write(path, _script(job, numbers, output))
    job.console.print(f"{path}: {len(numbers)} cells; submit it with", highlight=False, markup=False, soft_wrap=True)
    if job.wants_gpu and not _gpus(job):
        job.console.print(
            f"trainer.accelerator={job.accelerator} asks for no GPU: --gpus_per_cell 1 does", highlight=False
        )
    job.console.print(f"sbatch {shlex.quote(str(path))}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _script(job: Job, numbers: Sequence[int], output: str) -> str:
    at_a_time = f"%{job.jobs}" if job.jobs else ""
    gpus, cpus = _gpus(job), job.threads or TASK_CPUS
    options = {
        "job-name": job.folder.sweep.name,
        "array": f"{ranges(numbers)}{at_a_time}",
        "output": output,
        "cpus-per-task": str(cpus),
        **({"gres": f"gpu:{gpus}"} if gpus else {}),
        # B: to the batch script itself, which has become the sweep by exec: its cell saves and ends.
        "signal": f"B:TERM@{_SAVE_SECONDS}",
        "requeue": "",
    }
    lines = [f"#SBATCH --{name}{'=' + shlex.quote(value) if value else ''}" for name, value in options.items()]
    retry = ["--retry"] if job.retry else []
    command = shlex.join([sys.executable, "-m", "minigpt", *job.command, *retry])
    return "\n".join(
        [
            "#!/bin/bash",
            *lines,
            "# Partition, account, time and memory depend on your cluster: pass them to sbatch, or add them here.",
            f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
            *([f"export PYTHONPATH={shlex.quote(os.environ['PYTHONPATH'])}"] if os.environ.get("PYTHONPATH") else []),
            # Options on the command line of sbatch take precedence; not every cluster restricts a task to its cores.
            f'exec {command} --cpus_per_cell "${{SLURM_CPUS_PER_TASK:-{cpus}}}" --cell "$SLURM_ARRAY_TASK_ID"',
            "",
        ]
    )


def _output(folder: Path) -> str:
    """The log files as a filename pattern of sbatch, with % escaped as %%; raises ConfigError for a backslash, which
    disables patterns."""
    if "\\" in str(folder):
        raise ConfigError(f"{folder}: sbatch takes no backslash in the name of a log: give the sweep another --name")
    return f"{str(folder).replace('%', '%%')}/slurm-%A_%a.out"


def _gpus(job: Job) -> int:
    """The GPUs of a task: those requested, or those that the config requires."""
    if job.gpus_per_cell is not None:
        return job.gpus_per_cell
    return job.devices if job.accelerator in _GPU_ACCELERATORS else 0


def ranges(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> '0-2,5'."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ",".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)

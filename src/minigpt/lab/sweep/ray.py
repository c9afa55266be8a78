"""Run cells as tasks of a Ray cluster: an existing one, or a local one that ends with the sweep.

All machines of the cluster see the sweep's folder at the same path, as with SLURM.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from minigpt.errors import ConfigError
from minigpt.lab.sweep.cell import CellRun, CellSession, Outcome
from minigpt.lab.sweep.job import Job
from minigpt.system.extras import import_extra

_STOP = ".stop"
"""File in a cell's folder with a byte for each request to stop. A task that Ray itself cancels cannot save."""
_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 5


def run_on_ray(job: Job) -> int:
    """Run the sweep; returns the exit code. Raises ConfigError if Ray is missing or the cluster is unreachable."""
    # Read when ray is imported: send no usage statistics, and leave CUDA_VISIBLE_DEVICES of CPU tasks alone.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = import_extra("ray", "--engine ray", "minigpt[ray]")
    if job.address:
        _check_reachable(job.address)
    slots = job.slots()
    with job.folder.locked():
        local: dict[str, Any] = (
            {} if job.address else {"num_cpus": len(slots) * slots.threads, "include_dashboard": False}
        )
        try:
            ray.init(address=job.address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            hint = "; one that asks for a token takes it from RAY_AUTH_TOKEN" if job.address else ""
            raise ConfigError(f"--address {job.address or 'local'}: no Ray cluster: {reason}{hint}") from error
        try:
            return job.run(RayExecutor(ray, job, slots.threads))
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise ConfigError if nothing listens at `HOST:PORT`: Ray itself would try for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--address {address} must be HOST:PORT, as `ray start --head` prints it")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--address {address}: no Ray cluster: {error}") from error


class RayExecutor:
    """Run as many tasks as the cluster has room for, or `--jobs`."""

    def __init__(self, ray: Any, job: Job, threads: int) -> None:
        self._ray = ray
        resources = ray.cluster_resources()
        gpus = job.gpus_per_cell
        if gpus is None:
            gpus = job.devices if job.wants_gpu and resources.get("GPU", 0) else 0
        room = [resources.get("CPU", 1) / threads, *([resources.get("GPU", 0) / gpus] if gpus else [])]
        self._jobs = job.jobs or max(1, int(min(room)))
        self._task = ray.remote(max_retries=0, num_cpus=threads, num_gpus=gpus)(train)
        self._environment = {"OMP_NUM_THREADS": str(threads)}
        self._running: dict[Any, CellRun] = {}

    def has_room(self) -> bool:
        """Whether another task fits."""
        return len(self._running) < self._jobs

    def start(self, run: CellRun) -> None:
        """Submit the cell to Ray."""
        (run.path / _STOP).unlink(missing_ok=True)
        self._running[self._task.remote(run, self._environment)] = run

    def ended(self) -> Sequence[tuple[str, Outcome]]:
        """The cells whose task has ended, or whose machine was lost."""
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        found = []
        for task in done:
            run = self._running.pop(task)
            try:
                outcome = self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                outcome = Outcome(state="failed", reason=f"ray: {_first_line(error)}")
            found.append((run.name, outcome))
        return found

    def stop(self, name: str) -> None:
        """Ask the cell to stop, by a file, as it may run on another machine."""
        for run in self._running.values():
            if run.name == name:
                run.path.mkdir(parents=True, exist_ok=True)  # a task that has not started looks there first
                with (run.path / _STOP).open("ab") as file:
                    file.write(b".")


def train(run: CellRun, environment: Mapping[str, str]) -> Outcome:
    """The Ray task: run a cell's process and pass on requests to stop."""
    session, passed_on = CellSession(run, environment), 0
    stop = run.path / _STOP
    while (outcome := session.poll()) is None:
        asked = stop.stat().st_size if stop.exists() else 0
        for _ in range(passed_on, asked):
            session.stop()
        passed_on = max(passed_on, asked)
        time.sleep(_POLL_SECONDS)
    stop.unlink(missing_ok=True)
    return outcome


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

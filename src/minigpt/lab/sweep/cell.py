"""One cell as a run: its command, its folder, its process, and how that ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from minigpt.errors import CheckpointError, ConfigError
from minigpt.lab.sweep.folder import State
from minigpt.runs.checkpoint import last_checkpoint
from minigpt.runs.ownership import is_run, strangers
from minigpt.runs.paths import CHECKPOINTS, CONFIG, DIVERGENCES, step_paths
from minigpt.runs.records import read_run
from minigpt.runs.status import TAKEN, is_locked
from minigpt.system.files import atomic_write
from minigpt.system.marks import write_mark

OUT, ERRORS = "stdout.log", "stderr.log"
"""Files in a cell's folder: the output of its process, appended session by session."""
_CHILD = ("-m", "minigpt.lab.sweep.child")
_PATIENCE = 90.0
"""Seconds to wait for a process that a killed sweep left behind: its grace period in `child`, and a margin."""
_STOPPED = {128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT}


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """Everything needed to train a cell, as plain values that can be sent to another machine."""

    name: str
    workplace: str
    """The working directory: relative paths of the config and the user's own modules are looked up there."""
    folder: str
    """The run's folder, relative to the workplace."""
    words: tuple[str, ...]
    """Arguments of the command `minigpt`."""
    max_steps: int
    config_yaml: str
    """All settings. They are written into the folder before the run starts, so that `--ckpt_path last` always finds the
    run there, and `fit` never takes another folder because of one that is half made."""

    @property
    def path(self) -> Path:
        """The run's folder."""
        return Path(self.workplace, self.folder)

    def foreign_file(self) -> str | None:
        """A file in the folder that is not from a run, if no run began there; the cell is then refused."""
        if not self.path.is_dir() or is_run(self.path):
            return None
        others = strangers(self.path)
        if (self.path / CONFIG).exists() and not self._is_own():
            others.append(CONFIG)
        return others[0] if others else None

    def _is_own(self) -> bool:
        """Whether the config there is that of this cell, left by a killed sweep of an older version."""
        try:
            content = yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8"))
            return bool(content["run"]["name"] == self.name)
        except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
            return False

    def is_complete(self) -> bool:
        """Whether its newest complete checkpoint is at the last step."""
        return self.steps_saved() >= self.max_steps

    def stopped_early(self) -> str | None:
        """Why and at which step its last session ended, if a time limit or a callback stopped it."""
        try:
            return read_run(self.path, look_at_lock=False).stopped_early
        except CheckpointError:  # its records were damaged meanwhile
            return None

    def steps_saved(self) -> int:
        """The step of the newest complete checkpoint; 0 if there is none."""
        newest = last_checkpoint(self.path)
        steps = {path: int(path.stem.removeprefix("step=")) for path in step_paths(self.path / CHECKPOINTS)}
        return steps[newest] if newest else 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the process of a cell ended."""

    state: State
    reason: str | None = None
    stopped: bool = False
    """Stopped by SIGTERM, with its checkpoint saved; the sender knows whether it was pruned or interrupted."""


BUSY = Outcome(state="waiting", reason=f"busy elsewhere: {TAKEN}")
"""Another process trains the cell, and will record how it ends; or a later sweep resumes it."""


class CellSession:
    """A cell's process, started once its folder is free: one that a killed sweep left may still be saving there."""

    def __init__(self, run: CellRun, environment: Mapping[str, str]) -> None:
        """Start at once if no other process works there. Does not block: each `poll` looks again."""
        self.run = run
        self._environment = environment
        self._patient_until = time.monotonic() + _PATIENCE
        self._process: CellProcess | None = None
        self._outcome: Outcome | None = None
        self._begin()

    def stop(self) -> None:
        """Ask it to save and exit; a second call ends it at once."""
        if self._process is None:
            self._outcome = Outcome(state="waiting", stopped=True)
        else:
            self._process.stop()

    def poll(self) -> Outcome | None:
        """How it ended; None while it is running, or while it waits for the folder."""
        if self._process is None and self._outcome is None:
            self._begin()
        if self._process is None:
            return self._outcome
        outcome = self._process.poll()
        if outcome == BUSY and time.monotonic() <= self._patient_until:  # the other one may end before the next poll
            self._process = None
            return None
        return outcome

    def _begin(self) -> None:
        if is_locked(self.run.path):
            if time.monotonic() > self._patient_until:
                self._outcome = BUSY
        elif (name := self.run.foreign_file()) is not None:
            reason = f"{self.run.path} holds {name}, and no run of minigpt: move it away"
            self._outcome = Outcome(state="failed", reason=reason)
        elif self.run.is_complete():  # by the other process
            self._outcome = Outcome(state="finished")
        else:
            self._process = CellProcess(self.run, self._environment)


class CellProcess:
    """A `minigpt fit` in its own process group: Ctrl-C in the terminal reaches only the sweep, which then sends each
    cell one SIGTERM. Two signals would end a cell without a checkpoint."""

    def __init__(self, run: CellRun, environment: Mapping[str, str]) -> None:
        """Start or resume it."""
        self.run = run
        self._asked = False
        folder = run.path
        folder.mkdir(parents=True, exist_ok=True)
        write_mark(folder, "run")
        if not (folder / CONFIG).exists():
            atomic_write(folder / CONFIG, run.config_yaml)
        self._began = time.time()
        with (folder / OUT).open("ab") as out, (folder / ERRORS).open("ab") as errors:
            self._errors_before = errors.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-P", *_CHILD, *run.words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                cwd=run.workplace,
                env={**os.environ, "PYTHONPATH": _module_path(), **environment},
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask it to save and exit; a second call ends it at once."""
        self._asked = True
        self.process.send_signal(signal.SIGTERM)

    def poll(self) -> Outcome | None:
        """How it ended; None while it is running."""
        return None if self.process.poll() is None else self._outcome()

    def wait(self) -> Outcome:
        """Wait for it; returns how it ended."""
        self.process.wait()
        return self._outcome()

    def _outcome(self) -> Outcome:
        if self.process.stdin is not None:
            self.process.stdin.close()
        code, message = self.process.returncode, self._last_line()
        ended = code == 0 or (code in _STOPPED and self._asked)
        if ended and self.run.is_complete():  # also if the signal came after the last step
            return Outcome(state="finished")
        if code == 0:
            if (early := self.run.stopped_early()) is not None:
                return Outcome(state="stopped", reason=early)
            reason = f"it ended after step {self.run.steps_saved()} of {self.run.max_steps}"
            return Outcome(state="failed", reason=reason)
        if code in _STOPPED and self._asked:
            return Outcome(state="waiting", stopped=True)
        # Another process took the folder while this one started, and may have ended since.
        if code == ConfigError.exit_code and (message.endswith(TAKEN) or is_locked(self.run.path)):
            return Outcome(state="waiting", stopped=True) if self._asked else BUSY
        return Outcome(state="diverged" if self._diverged() else "failed", reason=message or _describe_exit(code))

    def _last_line(self) -> str:
        """The last line it wrote to stderr in this session."""
        with (self.run.path / ERRORS).open("rb") as file:
            file.seek(self._errors_before)
            lines = file.read().decode("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "").removeprefix("minigpt: error: ")

    def _diverged(self) -> bool:
        """Whether this session saved a divergence snapshot and ended there (a run that skips such steps goes on)."""
        snapshots = (self.run.path / DIVERGENCES).glob("step=*.pt")
        return self.process.returncode == 1 and any(path.stat().st_mtime >= self._began - 1 for path in snapshots)


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}{'; out of memory?' if code == -signal.SIGKILL else ''}"


def _module_path() -> str:
    """The module search path of this process, for the child."""
    return os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)

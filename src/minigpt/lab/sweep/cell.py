"""One cell as a run: its command, its folder, its process, and what became of it."""

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
"""In a cell's folder: what its process said, all sessions one after another."""
_CHILD = ("-m", "minigpt.lab.sweep.child")
_PATIENCE = 90.0
"""Seconds that the process of a sweep that was killed has to save: as long as `child` gives it, and some."""
_STOPPED = {128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM, -signal.SIGINT}


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """What trains a cell, anywhere where `folder` and `workplace` are: plain values, which can be sent there."""

    name: str
    workplace: str
    """The working directory, which relative paths of the config are meant from."""
    folder: str
    """The run's, relative to the workplace."""
    words: tuple[str, ...]
    """Of the command `minigpt`."""
    max_steps: int
    config_yaml: str
    """All settings. It stands in the folder before the run begins, so that `--ckpt_path last` finds the run there,
    whatever it has done so far, and no half-begun folder ever makes `fit` take another."""

    @property
    def path(self) -> Path:
        """The run's folder."""
        return Path(self.workplace, self.folder)

    def stranger(self) -> str | None:
        """What lies in the folder, if no run began there: then it is not a sweep's to train in."""
        if not self.path.is_dir() or is_run(self.path):
            return None
        others = strangers(self.path)
        if (self.path / CONFIG).exists() and not self._is_own():
            others.append(CONFIG)
        return others[0] if others else None

    def _is_own(self) -> bool:
        """Whether the config there is the cell's: a sweep of before there were marks may have been killed."""
        try:
            content = yaml.safe_load((self.path / CONFIG).read_text(encoding="utf-8"))
            return bool(content["run"]["name"] == self.name)
        except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
            return False

    def is_complete(self) -> bool:
        """Whether its newest whole checkpoint has reached the last step."""
        return self.steps_saved() >= self.max_steps

    def stopped_early(self) -> str | None:
        """Why and where its last session ended, if a limit of time or a callback asked for it."""
        try:
            return read_run(self.path, look_at_lock=False).stopped_early
        except CheckpointError:  # somebody has damaged its records meanwhile
            return None

    def steps_saved(self) -> int:
        """The step of the newest whole checkpoint; 0: there is none."""
        newest = last_checkpoint(self.path)
        steps = {path: int(path.stem.removeprefix("step=")) for path in step_paths(self.path / CHECKPOINTS)}
        return steps[newest] if newest else 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the process of a cell ended."""

    state: State
    reason: str | None = None
    stopped: bool = False
    """By a SIGTERM, its checkpoint written: what that means is known to whoever sent it."""


BUSY = Outcome(state="waiting", reason=f"busy elsewhere: {TAKEN}")
"""Nothing is wrong with such a cell: whoever trains it will record how it ends, or a later sweep goes on with it."""


class CellSession:
    """A cell's process from when its folder is free: a process that a killed sweep left there may still be saving."""

    def __init__(self, run: CellRun, environment: Mapping[str, str]) -> None:
        """Begins at once where nobody is at work there. Never waits: each `poll` looks again."""
        self.run = run
        self._environment = environment
        self._patient_until = time.monotonic() + _PATIENCE
        self._process: CellProcess | None = None
        self._outcome: Outcome | None = None
        self._begin()

    def stop(self) -> None:
        """Ask it to save and end; a second time: to end at once."""
        if self._process is None:
            self._outcome = Outcome(state="waiting", stopped=True)
        else:
            self._process.stop()

    def poll(self) -> Outcome | None:
        """What became of it; None: it is at work, or waits for the folder, as long as a run has to save."""
        if self._process is None and self._outcome is None:
            self._begin()
        if self._process is None:
            return self._outcome
        outcome = self._process.poll()
        if outcome == BUSY and time.monotonic() <= self._patient_until:  # look again: the other one may have ended
            self._process = None
            return None
        return outcome

    def _begin(self) -> None:
        if is_locked(self.run.path):
            if time.monotonic() > self._patient_until:
                self._outcome = BUSY
        elif (stranger := self.run.stranger()) is not None:
            reason = f"{self.run.path} holds {stranger}, and no run of minigpt's: move it away"
            self._outcome = Outcome(state="failed", reason=reason)
        elif self.run.is_complete():  # the other one has done it
            self._outcome = Outcome(state="finished")
        else:
            self._process = CellProcess(self.run, self._environment)


class CellProcess:
    """A `minigpt fit` in a process group of its own: a Ctrl-C in the terminal reaches the sweep alone, which then sends
    each cell one SIGTERM. Two signals would end a cell without its checkpoint."""

    def __init__(self, run: CellRun, environment: Mapping[str, str]) -> None:
        """Begins, or goes on."""
        self.run = run
        self._asked = False
        folder = run.path
        folder.mkdir(parents=True, exist_ok=True)
        write_mark(folder, "run")
        if not (folder / CONFIG).exists():
            atomic_write(folder / CONFIG, run.config_yaml)
        self._began = time.time()
        with (folder / OUT).open("ab") as out, (folder / ERRORS).open("ab") as errors:
            self._said_before = errors.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-P", *_CHILD, *run.words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                cwd=run.workplace,
                env={**os.environ, "PYTHONPATH": _modules(), **environment},
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask it to save and end; a second time: to end at once."""
        self._asked = True
        self.process.send_signal(signal.SIGTERM)

    def poll(self) -> Outcome | None:
        """What became of it; None: it is at work."""
        return None if self.process.poll() is None else self._outcome()

    def wait(self) -> Outcome:
        """What becomes of it."""
        self.process.wait()
        return self._outcome()

    def _outcome(self) -> Outcome:
        if self.process.stdin is not None:
            self.process.stdin.close()
        code, said = self.process.returncode, self._last_line()
        ended = code == 0 or (code in _STOPPED and self._asked)
        if ended and self.run.is_complete():  # also one that was asked to stop when it had done its last step
            return Outcome(state="finished")
        if code == 0:
            if (early := self.run.stopped_early()) is not None:
                return Outcome(state="stopped", reason=early)
            reason = f"it ended after step {self.run.steps_saved()} of {self.run.max_steps}"
            return Outcome(state="failed", reason=reason)
        if code in _STOPPED and self._asked:
            return Outcome(state="waiting", stopped=True)
        # Another took the folder while it started, and may have ended since.
        if code == ConfigError.exit_code and (said.endswith(TAKEN) or is_locked(self.run.path)):
            return Outcome(state="waiting", stopped=True) if self._asked else BUSY
        return Outcome(state="diverged" if self._diverged() else "failed", reason=said or _how(code))

    def _last_line(self) -> str:
        """Of what it said on stderr in this session."""
        with (self.run.path / ERRORS).open("rb") as file:
            file.seek(self._said_before)
            lines = file.read().decode("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "").removeprefix("minigpt: error: ")

    def _diverged(self) -> bool:
        """Whether this session kept the step that it ended at (a run that skips such steps ends at none)."""
        bundles = (self.run.path / DIVERGENCES).glob("step=*.pt")
        return self.process.returncode == 1 and any(path.stat().st_mtime >= self._began - 1 for path in bundles)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}{'; was there too little memory?' if code == -signal.SIGKILL else ''}"


def _modules() -> str:
    """Where this process finds its modules, for the other."""
    return os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)

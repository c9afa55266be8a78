"""Sweeps for tests: real ones of runs of a second each, and their parts without a training."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from minigpt.lab.sweep.cell import CellRun, Outcome
from minigpt.lab.sweep.file import Cell, Sweep, make_cell
from minigpt.lab.sweep.folder import SweepFolder
from minigpt.lab.sweep.job import Job
from minigpt.lab.sweep.search_space import SearchSpace
from minigpt.lab.sweep.view import PlainView

SETTINGS = {
    "run": {"log_every": 2, "eval_every": 5, "eval_batches": 2, "save_every": 4, "sample_every": 0},
    "model": {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.3},
    "optim": {"lr": 1e-2, "schedule": "constant", "warmup_steps": 3},
    "data": {"tokenizer": "byte", "batch_size": 4},
    "trainer": {"max_steps": 12, "accelerator": "cpu", "devices": 1},
}


def write_sweep(folder: Path, corpus: Path, **content: Any) -> Path:
    """A sweep file in `folder` beside its base, whose runs go to `folder`/runs."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**SETTINGS, "run": {**SETTINGS["run"], "root": str(folder / "runs")}}
    settings["data"] = {**SETTINGS["data"], "corpus": str(corpus)}
    (folder / "base.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    path = folder / "exp.yaml"
    path.write_text(yaml.safe_dump({"base": "base.yaml", **content}, sort_keys=False), encoding="utf-8")
    return path


def start(path: Path, *words: str) -> "subprocess.Popen[str]":
    """A real `minigpt sweep`."""
    command = [sys.executable, "-m", "minigpt", "sweep", str(path), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def states(path: Path) -> dict[str, str]:
    """Cell -> state, as sweep.json has them."""
    content = json.loads((path.parent / "runs" / path.stem / "sweep.json").read_text(encoding="utf-8"))
    return {cell["name"]: cell["state"] for cell in content["cells"]}


def losses(run: Path) -> list[tuple[str, str, str]]:
    """(step, training loss, validation loss), every digit."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return [(row["step"], row["train/loss"], row["val/loss"]) for row in csv.DictReader(file)]


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    """Until it is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def processes_of(text: str) -> list[int]:
    """The processes whose command line has `text` in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def kill(process: "subprocess.Popen[str]") -> None:
    """As a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


BASE = "run: {name: x}\n"


def cells(*groups: str) -> tuple[Cell, ...]:
    """One a group."""
    return tuple(make_cell(group, {"data.corpus": group}, 1, Path("exp.yaml")) for group in groups)


def sweep(*groups: str, search: SearchSpace | None = None) -> Sweep:
    """A sweep as its file would say it."""
    return Sweep(
        path=Path("exp.yaml"), name="exp", base="base.yaml", base_path=Path("base.yaml"), seeds=(1,), overrides={},
        cells=cells(*groups), search=search,
    )  # fmt: skip


def run_of(folder: Path, cell: Cell, *words: str) -> CellRun:
    """A cell's run in a folder below `folder`."""
    return CellRun(
        name=cell.name, workplace=str(folder), folder=f"runs/{cell.name}", words=words, max_steps=12, config_yaml=BASE
    )


def job(root: Path, folder: SweepFolder | None = None, **changes: Any) -> Job:
    """A sweep of three cells under `root`, as the command line would give it to an engine."""
    given: dict[str, Any] = {
        "folder": folder or SweepFolder(root / "exp", sweep("a", "b", "c"), BASE),
        "make_run": lambda cell: run_of(root, cell),
        "console": Console(file=io.StringIO(), width=200), "command": ["sweep", "exp.yaml"], "jobs": None,
        "gpus_per_cell": None, "cpus_per_cell": None, "accelerator": "cpu", "devices": 1, "retry": False,
        "address": None,
    }  # fmt: skip
    return Job(**{**given, **changes})


class Fake:
    """An executor whose cells end at once, as their names say."""

    def __init__(self, room: int) -> None:
        self.room, self.running, self.most, self.stopped = room, list[str](), 0, list[str]()

    def has_room(self) -> bool:
        return len(self.running) < self.room

    def start(self, run: CellRun) -> None:
        self.running.append(run.name)
        self.most = max(self.most, len(self.running))

    def ended(self) -> list[tuple[str, Outcome]]:
        ended, self.running = self.running, []
        return [(name, self.outcome(name)) for name in ended]

    def outcome(self, name: str) -> Outcome:
        if name in self.stopped:
            return Outcome(state="waiting", stopped=True)
        return Outcome(state="failed", reason="boom") if name.startswith("bad") else Outcome(state="finished")

    def stop(self, name: str) -> None:
        self.stopped.append(name)


def quiet_view(folder: SweepFolder) -> tuple[PlainView, io.StringIO]:
    """A view and what it says."""
    out = io.StringIO()
    return PlainView(Console(file=out, width=200), folder.records, lambda: len(folder.records)), out


def write_metrics(run: Path, rows: str) -> None:
    """The curves of a run so far."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.csv").write_text(f"step,train/loss,val/loss\n{rows}")

"""A sweep of runs of a second each, and what its tests ask about it."""

import csv
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

"""Provenance of a run: command, code, versions and machine."""

import datetime
import importlib.metadata
import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import minigpt
from minigpt.system.limits import usable_cores

_PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "tokenizers", "jsonargparse", "omegaconf")


def describe(command: Sequence[str]) -> dict[str, Any]:
    """Describe this process in plain values: what is needed to repeat the run, and what could make it differ."""
    versions = {"python": platform.python_version(), "minigpt": minigpt.__version__}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {
        "command": shlex.join(command),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": _git(),
        "versions": versions,
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": usable_cores(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        },
    }


def _git() -> dict[str, Any] | None:
    """Commit of minigpt's own source and whether it was changed since; None outside a git checkout."""
    folder = Path(minigpt.__file__).parent

    def ask(*words: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return answer.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--", str(folder)))}
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    """The processor's name; Linux keeps it where platform.processor does not look."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

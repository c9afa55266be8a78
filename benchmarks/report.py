"""What every table of results begins with: when, on which machine, with which versions."""

import datetime
import shlex
import sys
from pathlib import Path

import torch

from minigpt.runs.provenance import describe


def machine() -> str:
    """Two lines: the command as it was typed, and the machine it ran on."""
    facts = describe(sys.argv)
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    cores, threads = facts["machine"]["cores"], torch.get_num_threads()
    gpus = ", ".join(facts["machine"]["gpus"]) or "no GPU"
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("python", "torch", "lightning"))
    day = datetime.datetime.now(datetime.UTC).date()
    return (
        f"`{command}`\n\n{day}: {facts['machine']['processor']}, {cores} cores, {threads} threads, {gpus}; {versions}"
    )

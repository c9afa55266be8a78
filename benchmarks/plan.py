"""What `minigpt plan` says against what a run then takes: memory and time of whole processes, started anew.

    python benchmarks/plan.py [NAME ...]
    python benchmarks/plan.py --memory          # four steps each, times left out: for a machine that is busy
    python benchmarks/plan.py --held-out benchmarks/results/plan.md     # trains nothing: what was taken stands there

Each config is planned, trained for a few steps by `minigpt fit`, and planned again: a machine that other programs share
is not the same from one minute to the next, so the time that a plan foretells is the mean of both. Memory is the
largest resident set of the training process, on several devices of the largest of them.

The ratios of the memory are in-sample: LIBRARY_BYTES and SLACK of lab/plan/memory.py were set from such runs.
With --held-out both are fitted anew to all configs but one (least squares), and that one is foretold by them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import machine

from minigpt.lab.plan.memory import LIBRARY_BYTES, SLACK

CONFIG = str(Path(__file__).parent.parent / "configs" / "base.yaml")
COMMON = ("--trainer.accelerator", "cpu")
CONFIGS: dict[str, tuple[str, ...]] = {
    "base.yaml": ("--trainer.max_steps", "60"),
    "no dropout, byte tokens, block 256": (
        *("--model.dropout", "0", "--data.tokenizer", "byte", "--model.block_size", "256", "--data.batch_size", "16"),
        *("--trainer.max_steps", "20"),
    ),
    "6 layers, 256 wide": (
        *("--model.n_layer", "6", "--model.n_embd", "256", "--trainer.max_steps", "12", "--run.eval_batches", "2"),
    ),
    "muon, swiglu, rotary, rmsnorm": (
        *("--optim.name", "muon", "--model.activation", "swiglu", "--model.position", "rotary"),
        *("--model.norm", "rmsnorm", "--model.dropout", "0", "--trainer.max_steps", "50"),
    ),
    "a vocabulary of 50,304": (
        *("--data.vocab_multiple", "50304", "--data.batch_size", "16"),
        *("--trainer.max_steps", "6", "--run.eval_batches", "1", "--run.sample_every", "0"),
    ),
    "4 x 8 windows a step": (
        *("--data.batch_size", "8", "--trainer.accumulate_grad_batches", "4", "--trainer.max_steps", "50"),
    ),
    "bf16-mixed": ("--trainer.precision", "bf16-mixed", "--trainer.max_steps", "12", "--run.sample_every", "0"),
    "ddp, two processes": ("--trainer.devices", "2", "--trainer.max_steps", "40"),
}
SHORT = ("--trainer.max_steps", "4", "--run.sample_every", "0", "--run.eval_batches", "2")
"""All that is ever in memory at once is there after the second step."""
WHOLE = "base.yaml, all 1,000 steps"
"""Only on demand: minutes."""


@dataclass(frozen=True)
class Outcome:
    """Bytes and seconds of one process."""

    n_bytes: float
    seconds: float


@dataclass(frozen=True)
class Memory:
    """Bytes of one config: foretold are library + fixed + slack * scattered."""

    taken: float
    fixed: float
    """Of tensors that malloc maps by themselves."""
    scattered: float
    """Of the others."""


def planned(*words: str) -> dict[str, Any]:
    """What a plan foretells."""
    command = [sys.executable, "-m", "minigpt", "plan", CONFIG, *COMMON, *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def outcome(plan: dict[str, Any]) -> Outcome:
    """Its totals."""
    return Outcome(plan["total_bytes"], plan["total_seconds"])


def taken(*words: str) -> Outcome:
    """What `minigpt fit` then takes."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "minigpt", "fit", "--config", CONFIG, *COMMON, *words, f"--run.root={root}"]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        assert process.stderr is not None
        said = process.stderr.read()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(said)
    return Outcome(usage.ru_maxrss * 1024, seconds)  # KiB on Linux


def memory_row(name: str, words: tuple[str, ...]) -> str:
    """Planned and taken bytes of a few steps."""
    plan, real = outcome(planned(*words, *SHORT, "--utilisation", "0.5")), taken(*words, *SHORT)
    return f"| {name} | {_memory(plan, real)} |"


def held_out_rows(table: Path) -> Iterator[str]:
    """A row for each config of a table printed before: foretold by constants that the others alone were fitted for."""
    found = {name: _parts(CONFIGS[name], n_bytes) for name, n_bytes in _taken(table).items()}
    for name, here in found.items():
        library, slack = fitted([other for key, other in found.items() if key != name])
        foretold = library + here.fixed + slack * here.scattered
        constants = f"{library / 1e6:.0f} MB, {slack:.2f}"
        cells = (constants, f"{foretold / 1e6:.0f} MB", f"{here.taken / 1e6:.0f} MB", f"{foretold / here.taken:.2f}")
        yield f"| {name} | {' | '.join(cells)} |"


def _taken(table: Path) -> dict[str, float]:
    """Bytes by config, from the third column."""
    rows = [line.strip("| ").split(" | ") for line in table.read_text(encoding="utf-8").splitlines()]
    return {row[0]: float(row[2].removesuffix(" MB")) * 1e6 for row in rows if row[0] in CONFIGS}


def _parts(words: tuple[str, ...], n_bytes: float) -> Memory:
    plan = planned(*words, "--utilisation", "0.5")
    tensors = sum(size for part, size in plan["memory"].items() if part != "other")
    scattered = (plan["memory"]["other"] - LIBRARY_BYTES["cpu"]) / (SLACK["cpu"] - 1)
    return Memory(n_bytes, tensors - scattered, scattered)


def fitted(found: list[Memory]) -> tuple[float, float]:
    """LIBRARY_BYTES and SLACK of a CPU by least squares."""
    slack, library = np.polyfit([each.scattered for each in found], [each.taken - each.fixed for each in found], 1)
    return float(library), float(slack)


def row(name: str, words: tuple[str, ...]) -> str:
    """Memory and time."""
    before, real, after = outcome(planned(*words)), taken(*words), outcome(planned(*words))
    seconds = (before.seconds + after.seconds) / 2
    spread = f"{seconds:.1f} s ({before.seconds:.1f}, {after.seconds:.1f})"
    times = f"{spread} | {real.seconds:.1f} s | {seconds / real.seconds:.2f}"
    return f"| {name} | {_memory(before, real)} | {times} |"


def _memory(plan: Outcome, real: Outcome) -> str:
    return f"{plan.n_bytes / 1e6:.0f} MB | {real.n_bytes / 1e6:.0f} MB | {plan.n_bytes / real.n_bytes:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CONFIGS)}, or {WHOLE!r} (default: all but the last)")
    parser.add_argument("--memory", action="store_true", help="leave the times out")
    parser.add_argument("--held-out", type=Path, metavar="TABLE", help="of an earlier run of this script")
    options = parser.parse_args()
    configs = CONFIGS | {WHOLE: ()}
    columns = ["config", "memory planned", "taken", "ratio"]
    columns += [] if options.memory else ["time planned", "taken", "ratio"]
    rows = ((memory_row if options.memory else row)(name, configs[name]) for name in options.names or CONFIGS)
    if options.held_out:
        columns = ["config", "library and slack by the others", "memory foretold", "taken", "ratio"]
        rows = held_out_rows(options.held_out)
    print(f"{machine()}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for line in rows:
        print(line, flush=True)


if __name__ == "__main__":
    main()

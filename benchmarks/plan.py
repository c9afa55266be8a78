"""What `minigpt plan` says against what a run then takes: memory and time of whole processes, started anew.

    python benchmarks/plan.py [NAME ...]
    python benchmarks/plan.py --memory          # four steps each, times left out: for a machine that is busy

Each config is planned, trained for a few steps by `minigpt fit`, and planned again: a machine that other programs share
is not the same from one minute to the next, so the time that a plan foretells is the mean of both. Memory is the
largest resident set of the training process, on several devices of the largest of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from report import machine

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


def planned(*words: str) -> Outcome:
    """What a plan foretells."""
    command = [sys.executable, "-m", "minigpt", "plan", CONFIG, *COMMON, *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    plan = json.loads(done.stdout)
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
    plan, real = planned(*words, *SHORT, "--utilisation", "0.5"), taken(*words, *SHORT)
    return f"| {name} | {_memory(plan, real)} |"


def row(name: str, words: tuple[str, ...]) -> str:
    """Memory and time."""
    before, real, after = planned(*words), taken(*words), planned(*words)
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
    options = parser.parse_args()
    configs = CONFIGS | {WHOLE: ()}
    columns = ["config", "memory planned", "taken", "ratio"]
    columns += [] if options.memory else ["time planned", "taken", "ratio"]
    print(f"{machine()}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in options.names or CONFIGS:
        print((memory_row if options.memory else row)(name, configs[name]), flush=True)


if __name__ == "__main__":
    main()

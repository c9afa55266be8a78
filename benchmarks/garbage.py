"""What it costs to collect garbage between validations, and what it saves where a callback leaves 1 MB a step behind.

    python benchmarks/garbage.py [--steps 2000]

Memory: a tiny model, each variant a process of its own. Time: shakespeare_cpu.yaml's shape, blocks of 100 steps with
and without the collector in turn, in one process.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from minigpt.training.callbacks import overhead as lean

BLOCK, NEVER = 100, 10**9
SETTINGS = ("--run.eval_every", "6000", "--run.save_every", "6000", "--run.sample_every", "0", "--run.log_every", "10",
            "--trainer.accelerator", "cpu", "--trainer.devices", "1", "--data.tokenizer", "byte")  # fmt: skip
TINY = ("--model.n_layer", "1", "--model.n_head", "2", "--model.n_embd", "16", "--model.block_size", "16")
SMALL = ("--model.n_layer", "4", "--model.n_head", "4", "--model.n_embd", "128", "--model.block_size", "64",
         "--data.batch_size", "12")  # fmt: skip


class Leaves(pl.Callback):
    """Leaves a cycle of 1 MB a step, as pictures and exceptions do; prints by how many MB the process grew."""

    def __init__(self, collects: bool) -> None:
        lean.YOUNG_EVERY = lean.YOUNG_EVERY if collects else NEVER
        self.before = 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        """Leave one more."""
        self.before = self.before or peak()
        cycle: list[Any] = [bytearray(b"x" * 2**20)]
        cycle.append(cycle)

    def on_train_end(self, *_: Any) -> None:
        """Print the result."""
        print(json.dumps(peak() - self.before))


class Alternates(pl.Callback):
    """Times blocks of steps, with the collector and without in turn; prints the seconds of a step of each."""

    def __init__(self) -> None:
        self.seconds: dict[int, list[float]] = {lean.YOUNG_EVERY: [], NEVER: []}
        self.every = lean.YOUNG_EVERY
        self.began = 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """End a block and begin the next one."""
        if trainer.global_step % BLOCK:
            return
        if trainer.global_step > 2 * BLOCK:
            self.seconds[lean.YOUNG_EVERY].append((time.perf_counter() - self.began) / BLOCK)
        lean.YOUNG_EVERY = NEVER if self.every == lean.YOUNG_EVERY else self.every
        self.began = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        """Print the result."""
        print(json.dumps(list(self.seconds.values())))


def peak() -> float:
    """The most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def fit(folder: str, *words: str) -> Any:
    """What the callback of a run printed."""
    text = Path(folder) / "text.txt"
    text.write_text("".join(f"line {n}: {n} and {n + 1} make {2 * n + 1}.\n" for n in range(5000)))
    options = [f"--data.corpus={text}", f"--run.root={folder}", *SETTINGS, *words]
    command = [sys.executable, "-m", "minigpt", "fit", *options]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    )
    return next(json.loads(line) for line in done.stdout.splitlines() if line[:1] in "[0123456789" and line[1:2] != "m")


def main() -> None:
    """Print both tables."""
    from report import machine

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    steps = str(parser.parse_args().steps)
    if int(steps) < 5 * BLOCK:
        parser.error(f"--steps {steps} must be at least {5 * BLOCK}: blocks of {BLOCK} steps take turns")
    with tempfile.TemporaryDirectory() as folder:
        grown = [
            fit(folder, *TINY, f"--trainer.max_steps={steps}", "--trainer.callbacks+=garbage.Leaves",
                f"--trainer.callbacks.collects={collects}")
            for collects in ("true", "false")
        ]  # fmt: skip
        blocks = fit(folder, *SMALL, f"--trainer.max_steps={steps}", "--trainer.callbacks+=garbage.Alternates")
    print(f"{machine()}\n\n| | collecting every {lean.YOUNG_EVERY} batches | at validations alone |\n|---|---|---|")
    print(f"| memory after {steps} steps that leave 1 MB each, grown by | {grown[0]:.0f} MB | {grown[1]:.0f} MB |")
    times = [f"{1e3 * statistics.median(each):.2f} ms" for each in blocks]
    print(f"| a step of shakespeare_cpu.yaml's shape, median of {len(blocks[0])} blocks | {times[0]} | {times[1]} |")
    ratios = [one / other for one, other in zip(*blocks, strict=False)]
    print(f"\nOne block to the next: {statistics.median(ratios):.4f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()

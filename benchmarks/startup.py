"""How long a person waits: for help, for an error, for the first training step, for the whole of base.yaml from a cold
start.

    python benchmarks/startup.py [--rounds 5]

Each figure is the wall-clock time of a whole process, started anew; memory is the largest resident set of that process.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import machine

CONFIG = str(Path(__file__).parent.parent / "configs" / "base.yaml")


def run(*words: str, cache: str) -> tuple[float, str]:
    """Seconds and output of one `minigpt` process."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "minigpt", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "MINIGPT_CACHE": cache}, check=False
    )
    return time.perf_counter() - began, done.stdout + done.stderr


def first_step(root: str, cache: str) -> float:
    """Seconds from the start of `minigpt fit --config configs/base.yaml` to the end of its first step."""
    words = ["fit", "--config", CONFIG, f"--run.root={root}", "--trainer.max_steps=1", "--run.eval_batches=1"]
    return run(*words, "--run.sample_every=0", cache=cache)[0]


def main() -> None:
    """Print the table, then what the cold run said."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        cache = f"{folder}/cache"
        cold, said = run("fit", "--config", CONFIG, f"--run.root={folder}/runs", cache=cache)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # KiB on Linux
        times = {
            "`minigpt --help`": [run("--help", cache=cache)[0] for _ in range(rounds)],
            "an unknown key's error": [run("fit", "--model.n_heads", "4", cache=cache)[0] for _ in range(rounds)],
            "a wrong value's error": [run("fit", "--model.n_embd", "65", cache=cache)[0] for _ in range(rounds)],
            "`minigpt fit --help`": [run("fit", "--help", cache=cache)[0] for _ in range(rounds)],
            "base.yaml, warm cache: first step, validated and saved": [
                first_step(f"{folder}/first", cache) for _ in range(rounds)
            ],
        }
    print(f"{machine()}\n\n| | median s | min | max |\n|---|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    print(f"| base.yaml from a cold start (corpus, BPE, 1000 steps, 10 validations) | {cold:.0f} | once | |")
    said = said.replace(f"{folder}/", "").rstrip()
    print(f"\nLargest resident set of the cold run: {memory:.0f} MB. What it said:\n\n```\n{said}\n```")


if __name__ == "__main__":
    main()

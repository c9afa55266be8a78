"""configs/shakespeare_cpu.yaml: the exact loss over the whole validation split, over several seeds.

    python benchmarks/shakespeare_cpu.py --corpus FILE [--seeds 1337 1338 1339]

FILE is a local copy of tiny Shakespeare (1,115,394 characters); without it the corpus is downloaded. The last 10 % of
the text are held out, the usual split.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import machine

CONFIG = str(Path(__file__).parent.parent / "configs" / "shakespeare_cpu.yaml")


def main() -> None:
    """Train and measure with the real commands; print a row a seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="shakespeare")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for seed in arguments.seeds:
            minigpt = [sys.executable, "-m", "minigpt"]
            settings = [f"--data.corpus={arguments.corpus}", f"--run.root={root}", f"--run.name=seed{seed}"]
            began = time.perf_counter()
            fit = [*minigpt, "fit", "--config", CONFIG, *settings, f"--seed_everything={seed}"]
            subprocess.run(fit, check=True, stdout=sys.stderr)
            seconds = time.perf_counter() - began
            newest = max(Path(root, f"seed{seed}", "checkpoints").glob("step=*.ckpt"))
            validate = subprocess.run(
                [*minigpt, "validate", str(newest), "--json"], check=True, capture_output=True, text=True
            )
            rows.append((seed, json.loads(validate.stdout)["loss"], seconds))
    print(f"{machine().replace(arguments.corpus, 'FILE')}\n")
    print("| seed | exact loss of the last checkpoint, whole split | fit, start to end |\n|---|---|---|")
    for seed, loss, seconds in rows:
        print(f"| {seed} | {loss:.4f} | {seconds:.0f} s |")
    losses = [loss for _, loss, _ in rows]
    print(f"| mean | {statistics.mean(losses):.4f} (min {min(losses):.4f}, max {max(losses):.4f}) | |")


if __name__ == "__main__":
    main()

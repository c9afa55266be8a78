"""Two recipes for one small model: the exact loss over the whole validation split, the tokens and the time, over seeds.

    python benchmarks/shakespeare_cpu.py --corpus FILE [--configs NAME[@STEPS] ...] [--seeds 1337 1338 1339]

NAME@STEPS trains for another number of steps than the config says, with as many validations. FILE is a local copy of
tiny Shakespeare (1,115,394 characters); without it the corpus is downloaded. The last 10 % of the text are held out,
the usual split. The recipes take turns, seed by seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml
from report import machine

CONFIGS = Path(__file__).parent.parent / "configs"


class Trained(NamedTuple):
    """What a run came to."""

    loss: float
    """Exact, over the whole validation split."""
    training: float
    """Seconds from the moment the run is set up to the end of its last validation."""
    command: float
    """Seconds of the whole `minigpt fit`, start-up, samples and checkpoints included."""


def train(name: str, seed: int, corpus: str, root: str) -> Trained:
    """Train and measure with the real commands."""
    minigpt = [sys.executable, "-m", "minigpt"]
    run = f"{name}-{seed}"
    fit = [*minigpt, "fit", "--config", str(config_of(name)), f"--seed_everything={seed}"]
    settings = [f"--data.corpus={corpus}", f"--run.root={root}", f"--run.name={run}"]
    settings += [f"--trainer.max_steps={steps_of(name)}", f"--run.eval_every={eval_every_of(name)}"]
    began = time.perf_counter()
    marks = dict.fromkeys(("run ", "step "), began)
    with subprocess.Popen([*fit, *settings], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            marks |= {mark: time.perf_counter() for mark in marks if line.startswith(mark)}
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(process.returncode)
    newest = max(Path(root, run, "checkpoints").glob("step=*.ckpt"))
    answer = subprocess.run([*minigpt, "validate", str(newest), "--json"], check=True, capture_output=True, text=True)
    return Trained(json.loads(answer.stdout)["loss"], marks["step "] - marks["run "], seconds)


def config_of(name: str) -> Path:
    """The file of NAME or NAME@STEPS."""
    return CONFIGS / f"{name.partition('@')[0]}.yaml"


def steps_of(name: str) -> int:
    """STEPS, or what the config says."""
    own = yaml.safe_load(config_of(name).read_text(encoding="utf-8"))["trainer"]["max_steps"]
    return int(name.partition("@")[2] or own)


def eval_every_of(name: str) -> int:
    """So that there are as many validations as the config has."""
    values = yaml.safe_load(config_of(name).read_text(encoding="utf-8"))
    return max(1, round(values["run"]["eval_every"] * steps_of(name) / values["trainer"]["max_steps"]))


def tokens_of(name: str) -> int:
    """Tokens that a run of the recipe is trained on."""
    values = yaml.safe_load(config_of(name).read_text(encoding="utf-8"))
    return steps_of(name) * values["data"]["batch_size"] * values["model"]["block_size"]


def main() -> None:
    """Print a row a run, then the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="shakespeare")
    parser.add_argument("--configs", nargs="+", default=["shakespeare_cpu", "shakespeare_cpu_fast"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1337, 1338, 1339])
    arguments = parser.parse_args()
    results: dict[str, list[Trained]] = {name: [] for name in arguments.configs}
    with tempfile.TemporaryDirectory() as root:
        for seed in arguments.seeds:
            for name, measured in results.items():
                measured.append(train(name, seed, arguments.corpus, root))
    print(f"{machine().replace(arguments.corpus, 'FILE')}\n")
    print("| config | seed | exact loss of the last checkpoint, whole split | tokens | training | whole command |")
    print("|---|---|---|---|---|---|")
    for name, measured in results.items():
        for seed, run in zip(arguments.seeds, measured, strict=True):
            times = f"{run.training:.1f} s | {run.command:.1f} s"
            print(f"| {name} | {seed} | {run.loss:.4f} | {tokens_of(name):,} | {times} |")
    for name, measured in results.items():
        cells = [
            f"{statistics.mean(values):.{digits}f}{unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"
            for values, digits, unit in zip(zip(*measured, strict=True), (4, 1, 1), ("", " s", " s"), strict=True)
        ]
        print(f"| **{name}** | mean | **{cells[0]}** | {tokens_of(name):,} | {cells[1]} | {cells[2]} |")
    print("\ntraining: from the moment that a run is set up to the end of its last validation, checkpoints included")


if __name__ == "__main__":
    main()

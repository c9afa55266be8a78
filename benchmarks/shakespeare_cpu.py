"""Two recipes for one small model: the exact loss over the whole validation split, the tokens and the time, over seeds.

    python benchmarks/shakespeare_cpu.py --corpus FILE [--configs NAME[@STEPS] ...] [--seeds 1337 1338 1339]

NAME@STEPS trains for another number of steps than the config says. FILE is a local copy of tiny Shakespeare (1,115,394
characters); without it the corpus is downloaded. The last 10 % of the text are held out, the usual split. The recipes
take turns, seed by seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from report import machine

CONFIGS = Path(__file__).parent.parent / "configs"


def train(name: str, seed: int, corpus: str, root: str) -> tuple[float, float]:
    """Train and measure with the real commands: the exact loss of the last checkpoint, and the seconds of `fit`."""
    minigpt = [sys.executable, "-m", "minigpt"]
    run = f"{name}-{seed}"
    began = time.perf_counter()
    fit = [*minigpt, "fit", "--config", str(config_of(name)), f"--seed_everything={seed}"]
    settings = [f"--data.corpus={corpus}", f"--run.root={root}", f"--run.name={run}"]
    settings.append(f"--trainer.max_steps={steps_of(name)}")
    subprocess.run([*fit, *settings], check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - began
    newest = max(Path(root, run, "checkpoints").glob("step=*.ckpt"))
    answer = subprocess.run([*minigpt, "validate", str(newest), "--json"], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)["loss"], seconds


def config_of(name: str) -> Path:
    """The file of NAME or NAME@STEPS."""
    return CONFIGS / f"{name.partition('@')[0]}.yaml"


def steps_of(name: str) -> int:
    """STEPS, or what the config says."""
    own = yaml.safe_load(config_of(name).read_text(encoding="utf-8"))["trainer"]["max_steps"]
    return int(name.partition("@")[2] or own)


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
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.configs}
    with tempfile.TemporaryDirectory() as root:
        for seed in arguments.seeds:
            for name, measured in results.items():
                measured.append(train(name, seed, arguments.corpus, root))
    print(f"{machine().replace(arguments.corpus, 'FILE')}\n")
    print("| config | seed | exact loss of the last checkpoint, whole split | tokens | fit, start to end |")
    print("|---|---|---|---|---|")
    for name, measured in results.items():
        for seed, (loss, seconds) in zip(arguments.seeds, measured, strict=True):
            print(f"| {name} | {seed} | {loss:.4f} | {tokens_of(name):,} | {seconds:.0f} s |")
    for name, measured in results.items():
        losses, times = zip(*measured, strict=True)
        spread = f"{statistics.mean(losses):.4f} ({min(losses):.4f} to {max(losses):.4f})"
        print(f"| **{name}** | mean | **{spread}** | {tokens_of(name):,} | {statistics.mean(times):.0f} s |")


if __name__ == "__main__":
    main()

"""Does one seed make two runs alike? The correlation of the final losses, seed by seed, between three small settings.

    python benchmarks/seed_pairs.py tinyshakespeare.txt [SEEDS]

`minigpt compare` pairs runs by seed where this pays: see `minigpt.lab.compare.statistics.difference`.
"""

import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scipy import stats

from minigpt.cli.main import main as minigpt
from minigpt.runs.records import read_run

SETTINGS = {
    "learned": [],
    "rotary": ["--model.position", "rotary"],
    "lr 2.5e-3": ["--optim.lr", "0.0025"],
}
BASE = """\
run: {eval_every: 300, eval_batches: 20, save_every: 300, sample_every: 0}
model: {n_layer: 2, n_embd: 64, n_head: 4, block_size: 64, dropout: 0.1}
optim: {lr: 3.0e-3, warmup_steps: 20}
data: {tokenizer: char, batch_size: 16}
trainer: {max_steps: 300, accelerator: cpu, devices: 1, enable_progress_bar: false}
"""


def final_losses(corpus: str, words: Sequence[str], seeds: int, scratch: Path) -> list[float]:
    """Of one run a seed."""
    config = scratch / "base.yaml"
    config.write_text(BASE, encoding="utf-8")
    losses = []
    for seed in range(1, seeds + 1):
        root = Path(tempfile.mkdtemp(dir=scratch))
        options = ["--seed_everything", str(seed), "--data.corpus", corpus, "--run.root", str(root), *words]
        assert minigpt(["fit", "--config", str(config), *options]) == 0
        losses.append(read_run(root / "base").metrics[300]["val/loss"])
    return losses


def main(corpus: str, seeds: int = 16) -> None:
    """Print a row for each pair of settings."""
    with tempfile.TemporaryDirectory() as scratch:
        losses = {name: final_losses(corpus, words, seeds, Path(scratch)) for name, words in SETTINGS.items()}
    print(f"| settings | correlation over {seeds} seeds | 95 % interval |\n|---|---|---|")
    for one, other in itertools.combinations(losses, 2):
        result = stats.pearsonr(losses[one], losses[other])
        low, high = result.confidence_interval()
        print(f"| {one}, {other} | {result.statistic:.2f} | {low:.2f} to {high:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

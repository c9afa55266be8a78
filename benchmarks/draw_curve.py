"""Draw a run's loss from its metrics.csv: `python benchmarks/draw_curve.py runs/base benchmarks/results/base.png`."""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from minigpt.runs.metrics_csv import read_metrics


def main(run: str, target: str) -> None:
    """Training and validation loss over the steps."""
    rows = read_metrics(Path(run) / "metrics.csv")
    figure, axes = plt.subplots(figsize=(7, 3.2), dpi=110)
    for tag, label, style in (
        ("train/loss", "training batch", {"alpha": 0.45}),
        ("val/loss", "validation", {"marker": "o"}),
    ):
        points = [(step, row[tag]) for step, row in rows.items() if tag in row]
        axes.plot(*zip(*points, strict=True), label=label, linewidth=1.5, markersize=4, **style)
    axes.set(xlabel="optimizer steps", ylabel="loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Draw the README's picture from a run: its curve, a sample, and the attention of one layer.

minigpt fit --config configs/base.yaml
python docs/images/draw_run.py runs/base docs/images/run.png
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch

import minigpt
from minigpt.api import LoadedGPT
from minigpt.interpret.views import attention_maps
from minigpt.runs.metrics_csv import read_metrics

SENTENCE = "def get(self, name):\n    if name in self.values:\n        return self.values[name]\n"
LAYER = 1
N_HEADS = 4
LINES = 15


def main(run: str, target: str) -> None:
    """Three panels side by side."""
    loaded = minigpt.load(run)
    figure = plt.figure(figsize=(12, 3.5), dpi=110, layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1.05, 1, 1))
    draw_curve(left, Path(run))
    text = loaded.generate("def ", max_new_tokens=220, temperature=0.7, seed=1)
    middle.suptitle("a sample", fontsize=11)
    lines = [line[:46] for line in text.splitlines() if line.strip()][:LINES]
    middle.text(0.02, 0.86, "\n".join(lines), family="monospace", fontsize=8, va="top", parse_math=False)
    draw_attention(right, loaded)
    figure.savefig(target)


def draw_curve(figure: mpl.figure.SubFigure, run: Path) -> None:
    """Training and validation loss over the steps."""
    rows = read_metrics(run / "metrics.csv")
    axes = figure.subplots()
    figure.suptitle("the curve", fontsize=11)
    for tag, label, style in (
        ("train/loss", "training", {"alpha": 0.45}),
        ("val/loss", "validation", {"marker": "o", "markersize": 4}),
    ):
        points = [(step, row[tag]) for step, row in rows.items() if tag in row]
        axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.set(xlabel="optimizer steps", ylabel="loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw_attention(figure: mpl.figure.SubFigure, loaded: LoadedGPT) -> None:
    """Maps of the first heads of a layer: rows attend to columns."""
    tokens = torch.tensor([loaded.encode(SENTENCE)[:32]])
    maps = attention_maps(loaded.model, tokens)[LAYER, 0]  # (H, T, T)
    figure.suptitle(f"what heads 0 to {N_HEADS - 1} of layer {LAYER} attend to", fontsize=11)
    future = torch.ones_like(maps[0], dtype=torch.bool).triu(1)
    for head, axes in enumerate(figure.subplots(2, 2).flat):
        axes.imshow(maps[head].masked_fill(future, float("nan")), cmap="magma_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])


if __name__ == "__main__":
    main(*sys.argv[1:])

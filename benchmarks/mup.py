"""Does a learning rate carry over between widths? The usual parametrisation and maximal-update, side by side.

    python benchmarks/mup.py --corpus FILE [--widths 64 128 256] [--steps 120] [--seeds 1] [--picture mup.png]

First the coordinate check (Yang et al. 2022, "Tensor Programs V", appendix D.1): how much three steps of Adam change
the stream and the logits, by width. Then the training loss over learning rates at each width. FILE is any text;
characters are the tokens, the base width is the first one, heads have 16 channels.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from report import machine
from torch import Tensor

from minigpt.data.batches import TrainBatches, TrainOrder, Windows
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer, set_for_step
from minigpt.optim.config import OptimConfig
from minigpt.system.cpu_kernels.swap import use_cpu_kernels

BLOCK, BATCH, LAST = 64, 8, 20
"""Tokens of a window, windows of a batch, and over how many last steps the loss is averaged."""
RATES = [2.0**power for power in range(-12, -3)]
KINDS = {"usual": False, "maximal-update": True}
Losses = dict[tuple[str, int], list[float]]


def model_of(width: int, base: int | None, vocab_size: int, seed: int) -> GPT:
    """Four layers."""
    torch.manual_seed(seed)
    model = GPT(
        GPTConfig(
            vocab_size=vocab_size, block_size=BLOCK, n_layer=4, n_head=width // 16, n_embd=width, dropout=0.0,
            position="rotary", mup_base_width=base,
        )
    )  # fmt: skip
    return use_cpu_kernels(model)


def train(model: GPT, batches: TrainBatches, rate: float, steps: int, horizon: int) -> list[float]:
    """The losses of the batches, by AdamW at a cosine of `horizon` steps."""
    config = OptimConfig(lr=rate, min_lr=0.0, warmup_steps=min(10, horizon // 4), weight_decay=0.0)
    optimizer = build_optimizer(model, config)
    losses = []
    for step in range(steps):
        set_for_step(optimizer, config, step, horizon)
        optimizer.zero_grad()
        loss = model.loss(*batches[step])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def changes(model: GPT, batches: TrainBatches, rate: float) -> list[float]:
    """Root mean square of what three steps change, in the stream before the last norm and in the logits."""
    tokens = batches[0][0]
    stream: list[Tensor] = []
    hook = model.final_norm.register_forward_pre_hook(lambda _, inputs: stream.append(inputs[0].detach()))
    before = model(tokens).detach()
    train(model, batches, rate, 3, 1000)
    after = model(tokens).detach()
    hook.remove()
    differences = stream[-1] - stream[0], after - before
    return [float(difference.square().mean().sqrt()) for difference in differences]


def main() -> None:
    """Print both tables; with --picture draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--picture")
    arguments = parser.parse_args()
    text = Path(arguments.corpus).read_text(encoding="utf-8")
    characters = {character: index for index, character in enumerate(sorted(set(text)))}
    shards = [np.array([characters[character] for character in text], dtype=np.uint16)]
    base = arguments.widths[0]

    def fresh(kind: str, width: int, seed: int) -> tuple[GPT, TrainBatches]:
        order = TrainOrder(Windows(shards, BLOCK), seed)
        return model_of(width, base if KINDS[kind] else None, len(characters), seed), TrainBatches(order, BATCH)

    print(f"{machine().replace(arguments.corpus, 'FILE')}\n")
    print("What three steps of Adam at 1e-2 change, root mean square.\n")
    print("| parametrisation | width | stream | logits |\n|---|---|---|---|")
    moved: Losses = {}
    for kind in KINDS:
        for width in arguments.widths:
            moved[kind, width] = changes(*fresh(kind, width, arguments.seeds[0]), 1e-2)
            stream, logits = moved[kind, width]
            print(f"| {kind} | {width} | {stream:.3f} | {logits:.3f} |", flush=True)

    results: Losses = {}
    for kind in KINDS:
        for width in arguments.widths:
            results[kind, width] = []
            for rate in RATES:
                ends = [
                    train(*fresh(kind, width, seed), rate, arguments.steps, arguments.steps)[-LAST:]
                    for seed in arguments.seeds
                ]
                results[kind, width].append(float(np.mean(ends)))
    print(
        f"\nMean loss of the last {LAST} of {arguments.steps} steps of {BATCH} x {BLOCK} characters, by peak learning "
        f"rate; {len(arguments.seeds)} seed(s).\n"
    )
    print_rates(results)
    if arguments.picture:
        draw(moved, results, arguments.widths, arguments.picture)


def print_rates(results: Losses) -> None:
    """A row a width; the best rate once more at the end."""
    print(f"| parametrisation | width | {' | '.join(f'2^{int(math.log2(rate))}' for rate in RATES)} | best rate |")
    print("|---|---|" + "---|" * (len(RATES) + 1))
    for (kind, width), losses in results.items():
        best = int(np.argmin(losses))
        cells = [f"**{loss:.3f}**" if index == best else f"{loss:.3f}" for index, loss in enumerate(losses)]
        print(f"| {kind} | {width} | {' | '.join(cells)} | 2^{int(math.log2(RATES[best]))} |")


def draw(moved: Losses, results: Losses, widths: Sequence[int], target: str) -> None:
    """The coordinate check above, a panel a quantity; loss over learning rate below, a panel a parametrisation."""
    figure, (above, below) = plt.subplots(2, 2, figsize=(9, 6.4), dpi=110)
    colours = plt.get_cmap("viridis")(np.linspace(0.15, 0.8, len(widths)))
    for number, (axes, what) in enumerate(zip(above, ("stream", "logits"), strict=True)):
        for kind, line in zip(KINDS, ("--", "-"), strict=True):
            axes.plot(
                widths, [moved[kind, width][number] for width in widths], line, color="0.25", marker="o", label=kind
            )
        axes.set(
            xlabel="width", ylabel="root mean square", title=f"change of the {what} in three steps", ylim=(0, None)
        )
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
    for axes, kind in zip(below, KINDS, strict=True):
        for width, colour in zip(widths, colours, strict=True):
            losses = results[kind, width]
            best = int(np.argmin(losses))
            axes.plot(RATES, losses, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=f"width {width}")
            axes.plot(RATES[best], losses[best], color=colour, marker="*", markersize=13)
        axes.set(title=f"loss, {kind}", xlabel="peak learning rate", ylabel="nats per character")
        axes.set_xscale("log", base=2)
    lowest = min(min(losses) for losses in results.values())
    for axes in below:
        axes.set_ylim(lowest - 0.05, lowest + 1.0)
    for axes in (*above, *below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    above[0].legend(frameon=False)
    below[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(target)


if __name__ == "__main__":
    main()

"""What the Trainer costs: GPTModule under `minigpt fit` against a bare loop over the same GPT, batches and optimizer.

    python benchmarks/overhead.py [--rounds 7] [--steps 200]

Both run in this one process, interleaved round by round, at the size of configs/shakespeare_cpu.yaml, with TensorBoard
and metrics.csv on. A round's first steps are not counted. The figure is the ratio of steps per second, Trainer / bare,
by round.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from report import machine
from torch.nn.utils import clip_grad_norm_

from minigpt.batches import TrainBatches, TrainOrder, Windows
from minigpt.cli.parsing import parse
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.groups import build_optimizer
from minigpt.optim.schedules import learning_rate
from minigpt.text.prepare import prepare_cached
from minigpt.training import fit as training
from minigpt.training.config import Experiment

WARMUP = 20  # steps of a round that are not counted: the first batches fill caches and allocate


class Timer(pl.Callback):
    """Note the time after the warm-up and at the end of the last step."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == WARMUP:
            self.began = time.perf_counter()
        if trainer.global_step == trainer.max_steps - 1:  # the last step validates and saves
            self.ended = time.perf_counter()


def under_the_trainer(experiment: Experiment, steps: int) -> float:
    """Steps per second of `minigpt fit`, without its validations and checkpoints."""
    timer = Timer()
    experiment.trainer.update(max_steps=steps + WARMUP + 1, callbacks=[timer])
    training.fit(experiment)
    return steps / (timer.ended - timer.began)


def bare(experiment: Experiment, steps: int) -> float:
    """Steps per second of the shortest loop that does the same arithmetic."""
    prepared = prepare_cached(experiment.data.prepare_options())
    torch.manual_seed(experiment.seed_everything)
    model = GPT(GPTConfig(vocab_size=prepared.tokenizer.vocab_size, **experiment.model))
    optimizer = build_optimizer(model, experiment.optim)
    windows = Windows(prepared.train.shards, model.config.block_size)
    batches = TrainBatches(TrainOrder(windows, experiment.seed_everything), experiment.data.batch_size)
    for step in range(steps + WARMUP):
        if step == WARMUP:
            began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps + WARMUP, experiment.optim)
        x, y = batches[step]
        optimizer.zero_grad()
        loss = model.loss(x, y)
        loss.backward()
        clip_grad_norm_(model.parameters(), experiment.trainer["gradient_clip_val"])
        optimizer.step()
    return steps / (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--corpus", default="python", help="any corpus: the arithmetic does not depend on it")
    arguments = parser.parse_args()
    config = Path(__file__).parent.parent / "configs" / "shakespeare_cpu.yaml"
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as root:
        words = ["--config", str(config), f"--data.corpus={arguments.corpus}", f"--run.root={root}"]
        quiet = ["--run.sample_every=0", "--run.eval_every=100000", "--run.eval_batches=1", "--run.save_every=100000"]
        for number in range(arguments.rounds):
            experiment, _ = parse([*words, *quiet])
            order = [bare, under_the_trainer] if number % 2 else [under_the_trainer, bare]
            measured = {function: function(experiment, arguments.steps) for function in order}
            rates.append((measured[under_the_trainer], measured[bare]))
    ratios = np.array([mine / other for mine, other in rates])
    print(f"\n{machine()}\n\n| | steps per second, median | min | max |\n|---|---|---|---|")
    for name, values in zip(("Trainer", "bare loop"), zip(*rates, strict=True), strict=True):
        print(f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |")
    print(f"| **ratio** | **{np.median(ratios):.3f}** | {ratios.min():.3f} | {ratios.max():.3f} |")


if __name__ == "__main__":
    main()

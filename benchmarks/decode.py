"""Tokens per second of `minigpt generate` at the shape of shakespeare.yaml: cache, batches, libraries, compilation.

    python benchmarks/decode.py [--new_tokens 256] [--repeats 5] [--threads N] [--device cpu] [--compile]

Random weights: the time does not depend on them. What is compared takes turns, so that a machine that slows down slows
all of it. `--compile` adds the decode step through torch.compile, which needs a C++ compiler and half a minute.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from report import machine
from torch import Tensor

from minigpt.generate.batch import Batch
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.model.cache import RaggedCache
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.model.positions import Starts
from minigpt.system.cpu_kernels.linear import Linear, packed
from minigpt.system.cpu_kernels.swap import use_cpu_kernels

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
VOCAB_SIZE = 65
"""Distinct characters of tiny Shakespeare."""
BATCHES = (1, 4, 16, 64)
ROWS = (1, 8, 64, 256)
IN_A_ROW = 8


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new_tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = use_cpu_kernels(shakespeare_gpt().to(args.device))
    print(machine())
    cache_table(model, args.new_tokens, args.repeats)
    batch_table(model, args.new_tokens // 2, args.repeats)
    if args.device == "cpu":
        product_table(model, args.repeats)
    if args.compile:
        compile_table(model, args.new_tokens, args.repeats)


def cache_table(model: GPT, n: int, repeats: int) -> None:
    """With the cache and without; then past the end of the window."""
    generate(model, use_cache=True, n=16)  # the first calls allocate and choose kernels
    generate(model, use_cache=False, n=16)
    runs: dict[bool, list[tuple[float, list[int]]]] = {True: [], False: []}
    sliding = []
    for _ in range(repeats):
        for use_cache, results in runs.items():
            results.append(generate(model, use_cache=use_cache, n=n))
        sliding.append(generate(model, use_cache=True, n=n, prompt=model.config.block_size)[0])
    ratios = [without / cached for (cached, _), (without, _) in zip(runs[True], runs[False], strict=True)]
    same = all(ids == runs[True][0][1] for results in runs.values() for _, ids in results)
    print(f"\n{n} greedy tokens after a prompt of 1, median of {repeats} runs (lowest to highest).\n")
    print("| cache | tokens/s | ms/token |")
    print("|---|---|---|")
    rows = [("with", [seconds for seconds, _ in runs[True]]), ("without", [seconds for seconds, _ in runs[False]])]
    for name, values in [*rows, (f"with, after a prompt of {model.config.block_size}: the window slides", sliding)]:
        per_token = [seconds / n for seconds in values]
        print(f"| {name} | {spread([1 / s for s in per_token], 1)} | {spread([1000 * s for s in per_token], 2)} |")
    print(f"| without / with | {spread(ratios, 1)} | |")
    print(f"\nThe greedy texts are {'identical' if same else 'DIFFERENT'}.")


def batch_table(model: GPT, n: int, repeats: int) -> None:
    """Prompts of different lengths, computed together."""
    runs: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(repeats):
        for size, results in runs.items():
            # Lengths from 1 on, all over the half of the window that the new tokens leave.
            prompts = [[0] * (1 + b * (model.config.block_size - n - 1) // size) for b in range(size)]
            options = SamplingOptions(greedy=True, max_new_tokens=n)
            start = time.perf_counter()
            batch = Batch(model, prompts, options, seeds=[0] * size, valid_vocab=VOCAB_SIZE)
            with packed(model):
                for _ in range(n):
                    batch.step()
            results.append(time.perf_counter() - start)
    print(
        f"\n{n} greedy tokens for each of several prompts of different lengths at once, the reading of them included.\n"
    )
    print("| texts at once | tokens/s | ms/step |")
    print("|---|---|---|")
    for size, seconds in runs.items():
        rates, steps = [size * n / s for s in seconds], [1000 * s / n for s in seconds]
        print(f"| {size} | {spread(rates, 0)} | {spread(steps, 2)} |")


def product_table(model: GPT, repeats: int) -> None:
    """All products of the blocks' matrices with so many rows: through MKL, through oneDNN, and with packed weights."""
    layers = [module for module in model.blocks.modules() if isinstance(module, Linear)]

    def by_torch(layer: Linear, x: Tensor) -> Tensor:
        return F.linear(x, layer.weight, layer.bias)

    print("\nThe matrices of all blocks times so many rows, float32, in ms.\n")
    print("| rows | MKL: F.linear | oneDNN: cpu_kernels/linear.py | oneDNN, weights packed |")
    print("|---|---|---|---|")
    for rows in ROWS:
        inputs = {width: torch.randn(1, rows, width) for width in {layer.in_features for layer in layers}}
        ways = [(by_torch, nullcontext), (Linear.forward, nullcontext), (Linear.forward, partial(packed, model))]
        times: list[list[float]] = [[], [], []]
        for _ in range(repeats):
            for (product, setting), results in zip(ways, times, strict=True):
                with torch.inference_mode(), setting():
                    for _ in range(IN_A_ROW):  # as when sampling: the caches hold what they can of one kind of weights
                        start = time.perf_counter()
                        for layer in layers:
                            product(layer, inputs[layer.in_features])
                        results.append(1000 * (time.perf_counter() - start))
        print(f"| {rows} | {' | '.join(spread(results, 2) for results in times)} |")


def compile_table(model: GPT, n: int, repeats: int) -> None:
    """One step of the decode with shapes that never change, compiled and as it is."""
    cache = RaggedCache(model.config, 1, model.config.block_size, device=model.token_embedding.weight.device)

    def step(tokens: Tensor, place: Tensor) -> Tensor:
        start = Starts(place, model.config.block_size - 1)  # always all keys, masked: one graph for every length
        x = model.position.embed(model.token_embedding(tokens), start)
        signals = model.position.signals(x, start)
        for layer, block in zip(cache.layers, model.blocks, strict=True):
            x = block(x, signals, layer)
        return model.head(model.final_norm(x)[:, -1]).argmax(-1, keepdim=True)

    @torch.inference_mode()
    def decode(step: Callable[[Tensor, Tensor], Tensor], n: int) -> float:
        tokens = torch.zeros(1, 1, dtype=torch.int64, device=model.token_embedding.weight.device)
        start = time.perf_counter()
        for place in range(n):
            tokens = step(tokens, torch.tensor([[place]], device=tokens.device))
            int(tokens)  # as a text that streams
        return time.perf_counter() - start

    compiled = torch.compile(step, fullgraph=True)
    first = decode(compiled, 2)
    times: list[list[float]] = [[], []]
    for _ in range(repeats):
        for way, results in zip((step, compiled), times, strict=True):
            results.append(1000 * decode(way, n) / n)
    print("\nThe decode step alone, batch 1, shapes that never change.\n")
    print("| step | ms/token | first two tokens, s |")
    print("|---|---|---|")
    print(f"| as it is | {spread(times[0], 2)} | |")
    print(f"| torch.compile | {spread(times[1], 2)} | {first:.1f} |")


def shakespeare_gpt() -> GPT:
    """The model that `minigpt fit --config configs/shakespeare.yaml` builds, with random weights, in eval mode."""
    settings: dict[str, object] = {}
    for name in ("base.yaml", "shakespeare.yaml"):
        settings |= yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))["model"]
    torch.manual_seed(0)
    return GPT(GPTConfig.from_dict({**settings, "vocab_size": VOCAB_SIZE})).eval()


def generate(model: GPT, *, use_cache: bool, n: int, prompt: int = 1) -> tuple[float, list[int]]:
    """(seconds, ids) of `n` greedy tokens behind `prompt` others."""
    tokens = torch.zeros(1, prompt, dtype=torch.int64, device=model.token_embedding.weight.device)
    options = SamplingOptions(greedy=True, max_new_tokens=n, use_cache=use_cache)
    start = time.perf_counter()
    ids = [int(token) for token in generate_tokens(model, tokens, options, VOCAB_SIZE)]
    return time.perf_counter() - start, ids


def spread(values: list[float], digits: int) -> str:
    """median (lowest to highest)"""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()

"""Tokens per second of `minigpt generate` with its key/value cache and without, at the shape of shakespeare.yaml.

    python benchmarks/decode.py [--new_tokens 256] [--repeats 5] [--threads N] [--device cpu]

Random weights: the time does not depend on them. The two ways take turns, so that a machine that slows down slows both.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml
from report import machine

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.sampling import generate_tokens
from minigpt.sampling_options import SamplingOptions

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
VOCAB_SIZE = 65
"""Distinct characters of tiny Shakespeare."""


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new_tokens", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    model = shakespeare_gpt().to(args.device)
    generate(model, use_cache=True, n=16)  # the first calls allocate and choose kernels
    generate(model, use_cache=False, n=16)
    runs: dict[bool, list[tuple[float, list[int]]]] = {True: [], False: []}
    for _ in range(args.repeats):
        for use_cache, results in runs.items():
            results.append(generate(model, use_cache=use_cache, n=args.new_tokens))

    ratios = [without / cached for (cached, _), (without, _) in zip(runs[True], runs[False], strict=True)]
    same = all(ids == runs[True][0][1] for results in runs.values() for _, ids in results)
    print(f"{machine()}\n")
    print(f"{args.new_tokens} greedy tokens after a prompt of 1, median of {args.repeats} runs (lowest to highest).\n")
    print("| cache | tokens/s | ms/token |")
    print("|---|---|---|")
    for use_cache, name in ((True, "with"), (False, "without")):
        per_token = [seconds / args.new_tokens for seconds, _ in runs[use_cache]]
        print(f"| {name} | {spread([1 / s for s in per_token], 1)} | {spread([1000 * s for s in per_token], 2)} |")
    print(f"| ratio | {spread(ratios, 1)} | |")
    print(f"\nThe greedy texts are {'identical' if same else 'DIFFERENT'}.")


def shakespeare_gpt() -> GPT:
    """The model that `minigpt fit --config configs/shakespeare.yaml` builds, with random weights, in eval mode."""
    settings: dict[str, object] = {}
    for name in ("base.yaml", "shakespeare.yaml"):
        settings |= yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))["model"]
    torch.manual_seed(0)
    return GPT(GPTConfig.from_dict({**settings, "vocab_size": VOCAB_SIZE})).eval()


def generate(model: GPT, *, use_cache: bool, n: int) -> tuple[float, list[int]]:
    """(seconds, ids) of `n` greedy tokens."""
    prompt = torch.zeros(1, 1, dtype=torch.int64, device=model.token_embedding.weight.device)
    options = SamplingOptions(greedy=True, max_new_tokens=n, use_cache=use_cache)
    start = time.perf_counter()
    ids = [int(token) for token in generate_tokens(model, prompt, options, VOCAB_SIZE)]
    return time.perf_counter() - start, ids


def spread(values: list[float], digits: int) -> str:
    """median (lowest to highest)"""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()

"""`GPT.loss` with a large vocabulary against the plain way, all logits and then cross-entropy: memory, numbers, time.

    python benchmarks/loss_memory.py [--device cuda] [--rounds 3]

benchmarks/gpu.py runs it too.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from report import machine
from torch import Tensor

from minigpt.lab.bench.memory import peak_bytes
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT


def loss_memory(
    *,
    device: str,
    vocab_size: int = 50304,
    block_size: int = 1024,
    batch_size: int = 8,
    n_embd: int = 768,
    rounds: int = 3,
) -> str:
    """A Markdown table: peak memory of loss and gradient beyond the weights, how far the two ways differ, their times.

    The model has no layers, so that what is measured is the output layer and the loss. float32.
    """
    place = torch.device(device)
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=vocab_size, block_size=block_size, n_layer=0, n_head=1, n_embd=n_embd, dropout=0.0, position="none"
    )
    model = GPT(config).to(place)
    tokens = torch.randint(vocab_size, (batch_size, block_size), device=place)
    targets = torch.randint(vocab_size, (batch_size, block_size), device=place)

    def plain() -> Tensor:
        return F.cross_entropy(model(tokens).float().flatten(0, 1), targets.flatten())

    def ours() -> Tensor:
        return model.loss(tokens, targets)

    ways = {"plain": plain, "GPT.loss": ours}
    results = {}
    for name, way in ways.items():
        way().backward()  # allocates the gradients and chooses kernels
        model.zero_grad(set_to_none=False)
        n_bytes = peak_bytes(lambda way=way: way().backward(), place)  # type: ignore[misc]
        model.zero_grad(set_to_none=False)
        value = way()
        value.backward()
        grads = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        results[name] = (n_bytes, float(value.detach()), grads)
        model.zero_grad(set_to_none=False)
    times = _seconds(ways, place, rounds)
    least, exact, expected = results["plain"]
    rows = [
        f"Vocabulary {vocab_size:,}, {batch_size} x {block_size} tokens, {n_embd} channels, float32; times in turn.\n",
        "| way | peak memory | of the plain way's | loss | largest difference of a gradient, of the largest one "
        "| seconds | of the plain way's |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (n_bytes, value, grads) in results.items():
        difference = float((grads - expected).abs().max() / expected.abs().max())
        ratios = [own / other for own, other in zip(times[name], times["plain"], strict=True)]
        rows.append(
            f"| {name} | {n_bytes / 1e6:,.1f} MB | {n_bytes / least:.3f} | {value:.6f} | {difference:.1e} "
            f"| {statistics.median(times[name]):.3f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return "\n".join([*rows, f"\nThe losses differ by {abs(results['GPT.loss'][1] - exact):.1e}."])


def _seconds(ways: dict[str, Callable[[], Tensor]], place: torch.device, rounds: int) -> dict[str, list[float]]:
    """Of loss and gradient, the ways taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way().backward()
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{machine()}\n\n{loss_memory(device=arguments.device, rounds=arguments.rounds)}")


if __name__ == "__main__":
    main()

"""Time the operations whose gradients are written out (minigpt.system.cpu_kernels) against torch's own, both ways.

    python benchmarks/gradients.py [--rounds 25]

One thread, at the sizes of shakespeare_cpu.yaml: 12 x 64 vectors, 128 channels, 512 in the feed-forward layer. The ways
take turns, 20 passes each; the table has the lowest of the rounds.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from report import machine
from torch import Tensor

from minigpt.system.cpu_kernels.gradients import squared_relu, unit_rms

PASSES = 20
EPSILON = 1e-5
Way = Callable[[Tensor], Tensor]


def ours_rms(x: Tensor) -> Tensor:
    """Over the last axis."""
    return unit_rms(x, EPSILON)


def torchs_rms(x: Tensor) -> Tensor:
    """The same."""
    return F.rms_norm(x, x.shape[-1:], None, EPSILON)


CASES: dict[str, tuple[tuple[int, ...], Way, Way]] = {
    "RMS of 128": ((12, 64, 128), ours_rms, torchs_rms),
    "RMS of heads of 32": ((12, 64, 4, 32), ours_rms, torchs_rms),
    "squared ReLU of 512": ((12, 64, 512), squared_relu, lambda x: F.relu(x).square()),
}


def microseconds(way: Way, x: Tensor, gradient: Tensor) -> float:
    """Of a forward and a backward pass."""
    began = time.perf_counter()
    for _ in range(PASSES):
        way(x).backward(gradient)
        x.grad = None
    return (time.perf_counter() - began) / PASSES * 1e6


def main() -> None:
    """Print a row a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{machine()}\n\n| operation | ours, us | torch's, us |\n|---|---|---|")
    for name, (shape, ours, torchs) in CASES.items():
        x, gradient = torch.randn(shape, requires_grad=True), torch.randn(shape)
        times = [[microseconds(way, x, gradient) for way in (ours, torchs)] for _ in range(rounds)]
        print(f"| {name} | {' | '.join(f'{min(column):.0f}' for column in zip(*times, strict=True))} |")


if __name__ == "__main__":
    main()

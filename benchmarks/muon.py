"""One step of our Muon, equal shapes orthogonalised together, against torch.optim.Muon, one matrix after another.

    python benchmarks/muon.py [--configs shakespeare_cpu_fast gpt2_fast] [--rounds 5] [--device cuda]

The gradients are drawn once; both optimizers hold the matrices of the blocks and nothing else, and take turns. torch's
does not know that `qkv` holds three matrices: it is given the three as parameters of their own.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from report import machine
from torch.nn import Parameter
from torch.optim import Optimizer

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.config import OptimConfig
from minigpt.optim.muon import Muon
from minigpt.optim.muon import groups as muon_groups
from minigpt.system.matmul import synchronize

CONFIGS = Path(__file__).parent.parent / "configs"


def matrices_of(name: str) -> list[tuple[int, int]]:
    """Shapes of the matrices that Muon has in the model of a config."""
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))["model"]
    with torch.device("meta"):
        model = GPT(GPTConfig(vocab_size=64, **settings))
    group = muon_groups(model, OptimConfig(name="muon"))[0]
    return [
        (rows, parameter.shape[1])
        for parameter, parts in zip(group["params"], group["parts"], strict=True)
        for rows in parts
    ]


def optimizers(shapes: list[tuple[int, int]], device: torch.device) -> dict[str, tuple[Optimizer, list[Parameter]]]:
    """Both, over weights of their own with the same values and gradients."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    gradients = [torch.randn(shape, generator=generator).to(device) for shape in shapes]
    found: dict[str, tuple[Optimizer, list[Parameter]]] = {}
    for name in ("torch", "ours"):
        weights = [Parameter(value.clone()) for value in values]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        if name == "torch":
            found[name] = torch.optim.Muon(weights, lr=0.02, momentum=0.95, weight_decay=0.0), weights
        else:
            parts = [(weight.shape[0],) for weight in weights]
            group = {"params": weights, "parts": parts, "use_muon": True, "lr": 0.02, "momentum": 0.95}
            found[name] = Muon([group | {"weight_decay": 0.0}], fused=True), weights
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", nargs="+", default=["shakespeare_cpu_fast", "gpt2_fast"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(f"{machine()}\n\n{muon(arguments.configs, arguments.rounds, arguments.device)}")


def muon(configs: Sequence[str], rounds: int, device_name: str) -> str:
    """A row a config."""
    device = torch.device(device_name)
    lines = [
        "| matrices of | number | torch, ms a step | ours, ms a step | ours / torch | largest difference of a weight |",
        "|---|---|---|---|---|---|",
    ]
    for name in configs:
        shapes = matrices_of(name)
        both = optimizers(shapes, device)
        for optimizer, _ in both.values():
            optimizer.step()
        (_, theirs), (_, ours) = both.values()
        difference = max(float((a - b).detach().abs().max()) for a, b in zip(theirs, ours, strict=True))
        times: dict[str, list[float]] = {kind: [] for kind in both}
        for _ in range(rounds):
            for kind, (optimizer, _) in both.items():
                synchronize(device)
                began = time.perf_counter()
                optimizer.step()
                synchronize(device)
                times[kind].append(1000 * (time.perf_counter() - began))
        ratios = [b / a for a, b in zip(times["torch"], times["ours"], strict=True)]
        cells = [f"{statistics.median(times[kind]):.1f}" for kind in ("torch", "ours")]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {len(shapes)} | {' | '.join(cells)} | {spread} | {difference:.1e} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

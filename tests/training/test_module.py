"""The LightningModule on its own: torch.compile, the step's loss, the precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.config import OptimConfig
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.fit import fit
from minigpt.training.module import GPTModule

from .tiny import assert_same_state, checkpoint, tiny_experiment


def test_compiled_loss_is_used_and_the_keys_stay_clean(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile with a backend that counts instead of generating code: the wiring, in a second, not twenty."""
    graphs: list[Any] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend=counting))
    plain = tiny_experiment(tmp_path / "plain", corpus_file, run__sample_every=6)
    compiled = tiny_experiment(tmp_path / "compiled", corpus_file, run__sample_every=6, run__compile=True)
    assert fit(plain) == 0
    assert not graphs
    assert fit(compiled) == 0
    assert 1 <= len(graphs) <= 4  # training and validation, not one for each step
    assert_same_state(checkpoint(tmp_path / "plain" / "tiny", 12), checkpoint(tmp_path / "compiled" / "tiny", 12))


def test_logged_loss_is_the_mean_of_the_accumulated_batches(tmp_path: Path, corpus_file: Path) -> None:
    for name, settings in {
        "whole": {"data__batch_size": 8},
        "parts": {"data__batch_size": 2, "trainer__accumulate_grad_batches": 4},
    }.items():
        experiment = tiny_experiment(tmp_path / name, corpus_file, **settings, model__dropout=0.0, trainer__max_steps=1)
        assert fit(experiment) == 0
    whole, parts = (
        read_metrics(tmp_path / name / "tiny" / "metrics.csv")[1]["train/loss"] for name in ("whole", "parts")
    )
    assert whole == pytest.approx(parts, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions_train_and_sum_their_losses_exactly(tmp_path: Path, corpus_file: Path, precision: str) -> None:
    """A thousandth apart, for the weights are rounded; sums in bfloat16 would be off by a hundredth."""
    losses = {}
    for name in ("32-true", precision):
        experiment = tiny_experiment(tmp_path / name, corpus_file, trainer__precision=name, optim__lr=1e-9)
        experiment.run.__dict__["eval_batches"] = 1000
        assert fit(experiment) == 0
        losses[name] = read_metrics(tmp_path / name / "tiny" / "metrics.csv")[12]["val/loss"]
    assert losses[precision] == pytest.approx(losses["32-true"], abs=2e-3)
    experiment = tiny_experiment(tmp_path / "long", corpus_file, trainer__precision=precision, trainer__max_steps=60)
    assert fit(experiment) == 0
    assert read_metrics(tmp_path / "long" / "tiny" / "metrics.csv")[60]["val/loss"] < 4.0


def test_dropout_is_a_function_of_the_batch_number() -> None:
    """The same batch number gives the same mask, another number another one, another rank another one."""
    from minigpt.system.randomness import seed_dropout

    def draw(rank: int, batch: int) -> list[float]:
        seed_dropout(5, rank, batch, torch.device("cpu"))
        return torch.rand(4).tolist()

    first = draw(0, 1)
    torch.rand(3)
    assert draw(0, 1) == first
    assert first not in (draw(0, 2), draw(1, 1))


def test_module_keeps_the_names_of_the_model() -> None:
    gpt = GPT(GPTConfig(vocab_size=7, n_layer=1, n_head=1, n_embd=4))
    module = GPTModule(gpt, OptimConfig(), np.ones(7, dtype=np.int64))
    assert set(module.state_dict()) == {f"gpt.{name}" for name in gpt.state_dict()}


@pytest.mark.parametrize(("algorithm", "clip"), [("norm", 0.5), ("value", 0.01), ("norm", None)])
def test_gradient_is_measured_and_then_clipped(algorithm: str, clip: float | None) -> None:
    """Against torch's own functions."""
    gpt = GPT(GPTConfig(vocab_size=7, n_layer=1, n_head=1, n_embd=4))
    module = GPTModule(gpt, OptimConfig(), np.ones(7, dtype=np.int64))
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=generator) for p in gpt.parameters()]
    for parameter, gradient in zip(gpt.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    module.configure_gradient_clipping(torch.optim.SGD(gpt.parameters()), clip, algorithm)
    norm = torch.cat([gradient.ravel() for gradient in gradients]).norm()
    torch.testing.assert_close(module.grad_norm, norm)
    for parameter, gradient in zip(gpt.parameters(), gradients, strict=True):
        clipped = gradient.clamp(-0.01, 0.01) if algorithm == "value" else gradient * min(1.0, (clip or 1e9) / norm)
        torch.testing.assert_close(parameter.grad, clipped)

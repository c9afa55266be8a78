"""The bare loop does what the Trainer does, to the bit; transformers' GPT-2 has the same shape."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minigpt.errors import ConfigError
from minigpt.lab.bench.contenders import gpt2_of_the_shape, our_loop, transformers_loop
from minigpt.lab.bench.setting import make_setting
from minigpt.model.sizes import parameter_count
from minigpt.optim.config import OptimConfig
from minigpt.training.fit import fit

from .conftest import experiment_of


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_bare_loop_trains_what_the_trainer_trains(
    accumulate: int, optimizer: str, corpus_file: Path, tmp_path: Path
) -> None:
    """Weights after five steps are the same: it skips nothing that the arithmetic needs."""
    experiment = experiment_of(
        corpus_file,
        run__root=str(tmp_path),
        run__sample_every=0,
        optim__name=optimizer,
        trainer__max_steps=5,
        trainer__accumulate_grad_batches=accumulate,
    )
    loop = our_loop(make_setting(experiment))
    loop.run(2)
    loop.run(3)
    assert fit(experiment) == 0
    path = tmp_path / "base" / "checkpoints" / "step=00000005.ckpt"
    trained = torch.load(path, weights_only=True)["state_dict"]
    for name, weight in loop.model.state_dict().items():
        torch.testing.assert_close(weight, trained[f"gpt.{name}"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-mixed"])
def test_other_precisions_train(precision: str, corpus_file: Path) -> None:
    loop = our_loop(make_setting(experiment_of(corpus_file, trainer__precision=precision)))
    before = [weight.detach().clone() for weight in loop.model.parameters()]
    loop.run(2)
    assert any(not torch.equal(old, new) for old, new in zip(before, loop.model.parameters(), strict=True))
    assert all(weight.isfinite().all() for weight in loop.model.parameters())


def test_transformers_has_the_same_shape_and_learns_the_same_text(corpus_file: Path) -> None:
    setting = make_setting(experiment_of(corpus_file, model__dropout=0.0))
    ours, theirs = our_loop(setting), transformers_loop(setting)
    assert sum(weight.numel() for weight in theirs.model.parameters()) == parameter_count(setting.config)
    assert theirs.flops_per_token == ours.flops_per_token
    x, y = theirs.batches[0]
    before = [loop.loss(x, y).item() for loop in (ours, theirs)]
    for loop in (ours, theirs):
        loop.run(30)
    after = [loop.loss(x, y).item() for loop in (ours, theirs)]
    assert before[0] == pytest.approx(before[1], abs=0.2)
    assert after[0] == pytest.approx(after[1], abs=0.3)
    assert max(after) < min(before) - 1


def test_what_gpt2_lacks_is_replaced_and_the_shape_stays() -> None:
    from minigpt.model.config import GPTConfig

    modern = GPTConfig(
        vocab_size=100, n_layer=3, n_embd=32, n_head=4, n_kv_head=2, position="rotary", activation="swiglu", bias=False
    )
    plain = gpt2_of_the_shape(modern)
    assert (plain.n_layer, plain.n_embd, plain.n_head, plain.vocab_size) == (3, 32, 4, 100)
    assert (plain.position, plain.kv_heads, plain.bias, plain.ff_width) == ("learned", 4, True, 128)


def test_adamw_takes_the_settings_of_muon_that_are_its_own() -> None:
    muon = OptimConfig(name="muon", lr=1e-2, min_lr=1e-3, muon_lr=0.5, betas=(0.8, 0.9))
    assert muon.for_optimizer("adamw") == OptimConfig(lr=1e-2, min_lr=1e-3, betas=(0.8, 0.9))
    assert OptimConfig(lr=1e-2).for_optimizer("adamw") == OptimConfig(lr=1e-2)


def test_without_transformers_it_is_one_line(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = make_setting(experiment_of(corpus_file))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match='--against transformers needs transformers: pip install "transformers"'):
        transformers_loop(replace(setting))

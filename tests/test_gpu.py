"""What only a GPU can show: its kernels say what the CPU says, no step waits for it, runs on it resume to the bit."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from model.variants import FEW_VARIANTS, name, randomise, small_config
from training.tiny import assert_same_state, checkpoint, tiny_experiment

from minigpt import interpret
from minigpt.errors import TrainingError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.model import loss as loss_module
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer
from minigpt.optim.config import OptimConfig
from minigpt.runs.divergence_snapshot import read_snapshot
from minigpt.system.matmul import fastest_product
from minigpt.system.precision import autocast
from minigpt.training.fit import fit

DEVICE = "cuda"
ACCELERATOR = "gpu"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def pair(**settings: Any) -> tuple[GPT, GPT]:
    """The same random model on the CPU and on the GPU."""
    here = GPT(small_config(**settings))
    randomise(here)
    return here, copy.deepcopy(here).to(DEVICE)


def tokens_of(T: int = 12, n: int = 3) -> torch.Tensor:
    return torch.randint(19, (n, T), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("variant", FEW_VARIANTS, ids=name)
def test_loss_and_gradients_are_those_of_the_cpu(variant: dict[str, Any]) -> None:
    here, there = pair(**variant)
    tokens = tokens_of()
    results = []
    for model in (here, there):
        device = model.token_embedding.weight.device
        loss = model.loss(tokens[:, :-1].to(device), tokens[:, 1:].to(device))
        loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for mine, its in zip(*results, strict=True):
        torch.testing.assert_close(its.cpu(), mine, rtol=1e-3, atol=1e-5)


def test_bfloat16_is_near() -> None:
    _, model = pair(position="rotary", norm="rmsnorm", activation="swiglu")
    tokens = tokens_of().to(DEVICE)
    exact = model.loss(tokens[:, :-1], tokens[:, 1:])
    with autocast("bf16-mixed", torch.device(DEVICE)):
        rounded = model.loss(tokens[:, :-1], tokens[:, 1:])
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


def test_loss_by_pieces_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    _, plain = pair()
    pieces = copy.deepcopy(plain)
    tokens = tokens_of().to(DEVICE)
    plain.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    monkeypatch.setattr(loss_module, "loss_rows", lambda vocab_size: 7)
    pieces.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    for one, other in zip(plain.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_updates_are_those_of_the_cpu_and_a_bad_one_is_left_out(optimizer_name: str) -> None:
    models = pair()
    config = OptimConfig(name=optimizer_name, lr=1e-3, weight_decay=0.1)
    for model in models:
        optimizer = build_optimizer(model, config)
        generator = torch.Generator().manual_seed(1)
        for bad in (0.0, 1.0, 0.0):
            for parameter in model.parameters():
                gradient = torch.randn(parameter.shape, generator=generator).to(parameter.device)
                parameter.grad = gradient * float("nan") if bad else gradient
            optimizer.found_inf = torch.tensor(bad, device=next(model.parameters()).device)
            optimizer.step()
    here, there = models
    # Muon iterates in bfloat16 on a GPU.
    bound = 1e-5 if optimizer_name == "adamw" else 0.02
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(other.cpu(), one, rtol=bound, atol=bound)


@pytest.mark.parametrize("position", ["learned", "rotary", "alibi"])
def test_cached_says_what_uncached_says(position: str) -> None:
    _, model = pair(position=position)
    model.eval()
    prompt = tokens_of(4, 2).to(DEVICE)
    texts = []
    for use_cache in (True, False):
        options = SamplingOptions(max_new_tokens=8, greedy=True, use_cache=use_cache)
        texts.append(torch.stack(list(generate_tokens(model, prompt, options, 19))))
    assert torch.equal(*texts)


def test_trace_is_the_forward_pass_to_the_bit() -> None:
    _, model = pair(position="rotary")
    tokens = tokens_of().to(DEVICE)
    assert torch.equal(interpret.trace(model, tokens).logits, model(tokens))


def run(root: Path, corpus: Path, **changes: Any) -> Any:
    changes = {"trainer__accelerator": ACCELERATOR, "data__num_workers": 0} | changes
    return tiny_experiment(root, corpus, **changes)


@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_resumed_run_is_the_straight_one(
    tmp_path: Path, corpus_file: Path, precision: str, optimizer_name: str
) -> None:
    words = {"trainer__precision": precision, "optim__name": optimizer_name, "trainer__deterministic": True}
    for root, parts in {"straight": [12], "parts": [8, 12]}.items():
        for number, steps in enumerate(parts):
            experiment = run(tmp_path / root, corpus_file, trainer__max_steps=steps, **words)
            assert fit(experiment, ckpt_path="last" if number else None) == 0
    assert_same_state(*(checkpoint(tmp_path / root / "tiny", 12) for root in ("straight", "parts")))


def test_compiled_leaves_the_names_of_the_weights(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(run(tmp_path, corpus_file, run__compile=True)) == 0
    names = checkpoint(tmp_path / "tiny", 12)["state_dict"]
    assert not [each for each in names if "_orig_mod" in each]


class NoWaiting(pl.Callback):
    """Between the log steps of `tiny_experiment`, every second one, an operation that waits for the GPU is an error."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % 2 == 0 and trainer.global_step >= 4:  # the next step is odd: no log, no save
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")

    def on_exception(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_no_step_waits_for_the_device(tmp_path: Path, corpus_file: Path, optimizer_name: str) -> None:
    words = {"run__eval_every": 100, "run__save_every": 100, "optim__name": optimizer_name}
    assert fit(run(tmp_path, corpus_file, trainer__callbacks=[NoWaiting()], **words)) == 0


class Spoil(pl.Callback):
    """An infinite gradient at one step."""

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step == 6:
            pl_module.gpt.blocks[0].attention.qkv.weight.grad.mul_(float("inf"))


@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_a_step_that_diverges_is_kept_and_the_weights_are_good(
    tmp_path: Path, corpus_file: Path, optimizer_name: str
) -> None:
    experiment = run(tmp_path, corpus_file, trainer__callbacks=[Spoil()], optim__name=optimizer_name)
    with pytest.raises(TrainingError, match=r"gradient is not finite .* at step 7"):
        fit(experiment)
    snapshot = read_snapshot(tmp_path / "tiny" / "divergences" / "step=00000007.pt")
    assert all(bool(weight.isfinite().all()) for weight in snapshot.weights.values())


def test_all_panels_on_a_gpu(tmp_path: Path, corpus_file: Path) -> None:
    panels = ("attention", "histograms", "ratios", "position", "frequency", "calibration", "samples")
    assert fit(run(tmp_path, corpus_file, run__panels=panels, run__panel_every=5)) == 0


def test_the_measured_peak_is_that_of_a_gpu() -> None:
    assert fastest_product(torch.device(DEVICE), torch.bfloat16, 0.2) > 10e12


def test_a_model_of_its_own_size_fits() -> None:
    """The loss by pieces: at a vocabulary of 50,304 not even half of the plain logits are held."""
    config = GPTConfig(vocab_size=50_304, block_size=1024, n_layer=1, n_head=1, n_embd=32)
    model = GPT(config).to(DEVICE)
    tokens = torch.randint(50_304, (8, 1024), device=DEVICE)
    torch.cuda.reset_peak_memory_stats()
    model.loss(tokens, tokens).backward()
    assert torch.cuda.max_memory_allocated() < 8 * 1024 * 50_304 * 4 / 2

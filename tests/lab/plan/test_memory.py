"""Memory in closed form against torch's own count of what a step allocates, and a checkpoint's against its file."""

from typing import Any

import pytest
import torch

from lab.work import MODEL, workload
from minigpt.errors import ConfigError
from minigpt.lab.bench.memory import peak_bytes
from minigpt.lab.plan.memory import LIBRARY_BYTES, checkpoint_bytes, disk_bytes, step_memory, strategy_name
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.optim.build import build_optimizer
from minigpt.optim.config import OptimConfig
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.precision import autocast, weights_dtype


def storage_bytes(tensors: Any) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
@pytest.mark.parametrize("model", [{}, {"activation": "swiglu", "norm": "rmsnorm", "n_kv_head": 1}], ids=str)
def test_what_stays_between_two_steps(name: str, precision: str, model: dict[str, Any]) -> None:
    work = workload(config=GPTConfig(**{**MODEL, **model}), optim=OptimConfig(name=name), precision=precision)
    gpt = use_cpu_kernels(GPT(work.config).to(weights_dtype(precision)))
    optimizer = build_optimizer(gpt, work.optim)
    tokens = torch.zeros(2, 16, dtype=torch.long)
    gpt.loss(tokens, tokens).backward()
    optimizer.step()
    memory = step_memory(work, "cpu")
    assert memory.weights == storage_bytes(gpt.parameters())
    assert memory.gradients == storage_bytes(parameter.grad for parameter in gpt.parameters())
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, torch.Tensor)]
    counters = sum(tensor.nbytes for tensor in state if tensor.numel() == 1)
    assert memory.optimizer == storage_bytes(state) - counters


def kept(work: Any) -> int:
    """Bytes that autograd keeps of one batch, weights aside."""
    gpt = use_cpu_kernels(GPT(work.config).to(weights_dtype(work.precision)).train())
    weights = {parameter.untyped_storage().data_ptr() for parameter in gpt.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    tokens = torch.zeros(work.batch_size, work.config.block_size, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with autocast(work.precision, torch.device("cpu")):
            loss = gpt.loss(tokens, tokens.clone())
        assert loss.isfinite()
    return sum(storage.nbytes() for address, storage in saved.items() if address not in weights)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_activations_are_what_autograd_keeps(precision: str, dropout: float) -> None:
    wide = {"n_embd": 128, "n_head": 4, "block_size": 64, "vocab_size": 500}
    work = workload(config=GPTConfig(**{**MODEL, **wide, "dropout": dropout}), precision=precision)
    memory = step_memory(work, "cpu")
    passing = 2 * 8 * 64 * 500 * 4
    expected = memory.activations + memory.logits - passing + memory.copies
    assert kept(work) == pytest.approx(expected, rel=0.001 if precision == "32-true" else 0.15)


def test_a_large_vocabulary_goes_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch allocates for such a loss at most: three pieces of logits, and the head's gradient twice."""
    monkeypatch.setattr("minigpt.model.config.LOGITS_AT_ONCE", 64 * 5000)
    config = GPTConfig(**{**MODEL, "n_layer": 0, "n_embd": 64, "block_size": 64, "vocab_size": 5000})
    work = workload(config=config, precision="32-true")
    gpt, tokens = use_cpu_kernels(GPT(config)), torch.zeros(8, 64, dtype=torch.long)
    gpt.loss(tokens, tokens).backward()
    memory = step_memory(work, "cpu")
    peak = peak_bytes(lambda: gpt.loss(tokens, tokens), torch.device("cpu"))
    assert peak == pytest.approx(memory.activations + memory.logits, rel=0.15)


def test_memory_follows_batch_devices_and_strategy() -> None:
    one = step_memory(workload(), "cpu")
    double = step_memory(workload(batch_size=16), "cpu")
    assert double.activations == pytest.approx(2 * one.activations, rel=0.01)
    assert double.optimizer == one.optimizer
    shared = step_memory(workload(batch_size=16, devices=2, strategy="ddp"), "cpu")
    assert shared.activations == one.activations
    assert shared.copies == one.gradients


def test_malloc_keeps_nothing_of_what_it_maps() -> None:
    """Logits of more than 32 MiB, and no others, leave no gaps behind."""
    small, large = (workload(config=GPTConfig(**{**MODEL, "vocab_size": size})) for size in (1000, 66_000))
    for work, scattered in ((small, True), (large, False)):
        memory = step_memory(work, "cpu")
        slack = memory.other - step_memory(workload(batch_size=1), "cpu").other
        assert (slack > 0.3 * memory.logits) == scattered
        assert memory.other > LIBRARY_BYTES["cpu"]


def test_a_gpu_keeps_no_attention_weights_under_dropout() -> None:
    work = workload(config=GPTConfig(**{**MODEL, "dropout": 0.1}))
    plain = step_memory(workload(), "cuda").activations
    masks = 8 * 16 * 32 * 5  # of one byte: the embedding's and two in each of two layers
    assert step_memory(work, "cuda").activations == plain + masks
    assert step_memory(work, "cpu").activations > 1.25 * plain


@pytest.mark.parametrize(("given", "devices", "name"), [("auto", 1, "single"), (None, 2, "ddp"), ("ddp", 1, "ddp")])
def test_strategy(given: object, devices: int, name: str) -> None:
    assert strategy_name(given, devices) == name


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.strategy=fsdp cannot be planned: auto, single_device and ddp can"):
        strategy_name("fsdp", 2)


@pytest.mark.parametrize(("keep", "files"), [(3, 4), (0, 11), (20, 11)])
def test_disk_holds_the_kept_and_the_best(keep: int, files: int) -> None:
    work = workload(keep=keep)
    assert disk_bytes(work) == files * checkpoint_bytes(work)
    assert disk_bytes(workload(keep=keep, save_every=1000)) == checkpoint_bytes(work)

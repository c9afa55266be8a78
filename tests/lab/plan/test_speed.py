"""Devices by their names, speeds by their data sheets, and a model that is timed here. No time is asserted."""

import pytest
import torch

from lab.work import MODEL, machine, speed, workload
from minigpt.errors import ConfigError
from minigpt.lab.plan import speed as plan_speed
from minigpt.lab.plan.machine import listed_machine, this_machine
from minigpt.lab.plan.plan import duration, make_plan
from minigpt.lab.plan.speed import TRAINER_SECONDS, find_speed
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.model.sizes import flops_per_token
from minigpt.system import matmul


@pytest.mark.parametrize(
    ("name", "gigabytes", "kind"),
    [
        ("h200", 141, "cuda"),
        ("NVIDIA H100 80GB HBM3", 80, "cuda"),
        ("a100", 40, "cuda"),
        ("A100-SXM4-80GB", 80, "cuda"),
        ("NVIDIA GH200 480GB", 141, "cuda"),
        ("rtx4090", 24, "cuda"),
        ("Tesla V100-SXM2-32GB", 32, "cuda"),
        ("Apple M2 Max", float("inf"), "mps"),
        ("m4", float("inf"), "mps"),
    ],
)
def test_names_find_their_memory(name: str, gigabytes: float, kind: str) -> None:
    machine = listed_machine(name, 2)
    assert (machine.bytes_per_device, machine.kind, machine.is_here) == (gigabytes * 1e9, kind, False)


def test_a_listed_speed_is_a_share_of_the_dense_peak() -> None:
    work = workload(precision="bf16-mixed", batch_size=16, devices=2)
    found = find_speed(work, listed_machine("h200", 2), 0.5)
    assert found.batch == pytest.approx(256 * flops_per_token(work.config) / (0.5 * 2 * 989.4e12))
    assert found.evaluation_batch == pytest.approx(found.batch / 3)
    assert not found.is_measured
    default = find_speed(work, listed_machine("h200", 2))
    assert default.batch == pytest.approx(found.batch * 0.5 / 0.35)


def test_a_precision_that_the_device_lacks() -> None:
    with pytest.raises(ConfigError, match=r"bf16-mixed: v100 has no such products .*: --trainer.precision 16-mixed"):
        find_speed(workload(precision="bf16-mixed"), listed_machine("v100", 1))


def test_this_machine_is_timed_and_nobodys_random_state_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16,)})
    monkeypatch.setattr(plan_speed, "_SECONDS", 0.01)
    before = torch.get_rng_state()
    found = find_speed(workload(), this_machine(torch.device("cpu"), 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert found.is_measured
    assert min(found.batch, found.update, found.evaluation_batch, found.sampled_token) > 0
    monkeypatch.setattr(plan_speed, "_LONGEST", 1e-12)  # not even a window can be timed
    assumed = find_speed(workload(), this_machine(torch.device("cpu"), 1))
    assert "50% of the measured peak" in assumed.source


def test_validation_is_timed_without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the mode in which a run validates, and a loss of each token, as it does."""
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16,)})
    monkeypatch.setattr(plan_speed, "_SECONDS", 0.01)
    modes: dict[str, set[bool]] = {"mean": set(), "none": set()}
    loss = GPT.loss

    def watched(self: GPT, *words: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        modes[reduction].add(self.training)
        return loss(self, *words, reduction=reduction)

    monkeypatch.setattr(GPT, "loss", watched)
    find_speed(workload(config=GPTConfig(**{**MODEL, "dropout": 0.2})), this_machine(torch.device("cpu"), 1))
    assert modes == {"mean": {True}, "none": {False}}


def test_a_compiled_run_is_told_that_it_was_timed_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16,)})
    monkeypatch.setattr(plan_speed, "_SECONDS", 0.01)
    here = this_machine(torch.device("cpu"), 1)
    assert "without run.compile" in find_speed(workload(compiled=True), here).source
    assert "compile" not in find_speed(workload(), here).source


@pytest.mark.parametrize(("kind", "at_once"), [("cpu", 1), ("cuda", 2)])
def test_utilisation_is_of_the_whole_step(kind: str, at_once: int) -> None:
    """That of the tokens per second beside it: update and Trainer are in both."""
    work = workload(batch_size=16, devices=2, strategy="ddp")
    made = make_plan(work, machine(kind=kind, devices=2), speed(batch=0.1, update=0.3))
    assert made.tokens_per_second == pytest.approx(16 * 16 / (0.4 + TRAINER_SECONDS))
    flops = made.tokens_per_second * flops_per_token(work.config)
    assert made.utilisation == pytest.approx(flops / (1e11 * at_once))


def test_several_processes_start_one_after_the_other() -> None:
    one, two = workload(), workload(devices=2, strategy="ddp")
    assert duration(two, speed()).startup == 2 * duration(one, speed()).startup


def test_a_run_takes_what_its_parts_take() -> None:
    work = workload(max_steps=250, accumulate=2, eval_every=100, eval_batches=5, sample_every=125, save_every=100)
    times = duration(work, speed())
    assert times.training == pytest.approx(250 * (2 * 0.1 + 0.01 + TRAINER_SECONDS))
    assert times.evaluation == pytest.approx(3 * 5 * 0.03)  # steps 100, 200 and 250
    assert times.sampling == pytest.approx(2 * 200 * 0.001)
    assert times.total == pytest.approx(
        times.training + times.evaluation + times.sampling + times.saving + times.startup
    )

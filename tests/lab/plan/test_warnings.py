"""Each warning comes when it should, and the setting that it names does what it says."""

import dataclasses
import re
from typing import Any

import pytest

from lab.work import MODEL, machine, speed, text, workload
from minigpt.lab.plan.memory import largest_batch, step_memory
from minigpt.lab.plan.plan import Plan, make_plan
from minigpt.lab.plan.warnings import warnings_of
from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig


def plan(work: Any = None, here: Any = None, **speeds: Any) -> Plan:
    return make_plan(work or workload(), here or machine(), speed(**speeds))


def told(made: Plan, **more: float) -> str:
    return "\n".join(map(str, warnings_of(made, **more)))


def options(line: str) -> dict[str, float]:
    """`--data.batch_size 4` -> {"batch_size": 4}"""
    return {name: float(value) for name, value in re.findall(r"--\w+\.(\w+) ([\d.]+)", line)}


def test_a_good_plan_warns_of_nothing() -> None:
    assert told(plan()) == ""


def test_what_does_not_fit_gets_the_largest_batch_that_does() -> None:
    work = workload(batch_size=64)
    limit = step_memory(workload(batch_size=24), "cpu").total + 1
    line = told(plan(work, machine(bytes_per_device=limit)))
    assert "does not fit" in line
    assert options(line) == {"batch_size": 16, "accumulate_grad_batches": 4}
    assert "at most 24 windows fit" in line
    assert largest_batch(work, "cpu", limit) == 24


def test_a_batch_that_neither_fits_nor_can_be_shared_out() -> None:
    """The next batch that three devices can share, in pieces that fit."""
    work = workload(batch_size=64, devices=3, strategy="ddp")
    here = machine(devices=3, bytes_per_device=step_memory(workload(batch_size=8, strategy="ddp"), "cpu").total + 1)
    line = told(plan(work, here))
    assert options(line) == {"batch_size": 6, "accumulate_grad_batches": 11}  # 66 windows, and 24 at once fit
    assert "among 3 devices: any multiple of 3 that fits" in line
    assert told(plan(workload(batch_size=6, accumulate=11, devices=3, strategy="ddp"), here)) == ""


def test_what_never_fits_on_several_devices_gets_a_window_for_each() -> None:
    small = workload(batch_size=1, config=dataclasses.replace(workload().config, n_embd=12), precision="32-true")
    limit = step_memory(dataclasses.replace(small, strategy="ddp"), "cpu").total + 1
    line = told(plan(workload(batch_size=8, devices=2, strategy="ddp"), machine(devices=2, bytes_per_device=limit)))
    assert options(line)["batch_size"] == 2


def test_what_never_fits_gets_another_precision_or_a_smaller_model() -> None:
    work = workload(batch_size=8)
    limit = step_memory(workload(batch_size=1, precision="bf16-true"), "cpu").total + 1
    assert "--trainer.precision bf16-true --data.batch_size 1" in told(plan(work, machine(bytes_per_device=limit)))
    small = dataclasses.replace(work.config, n_embd=12)
    limit = step_memory(workload(batch_size=1, config=small), "cpu").total + 1
    line = told(plan(work, machine(bytes_per_device=limit)))
    assert "not even one window" in line
    assert line.endswith("--model.n_embd or --model.n_layer must be smaller, with --data.batch_size 1")


def test_many_epochs() -> None:
    work = workload(max_steps=40_000)  # 128 tokens a step, of a million
    line = told(plan(work))
    assert "trains 5 epochs" in line
    steps = int(options(line)["max_steps"])
    assert workload(max_steps=steps).epochs <= 4 < workload(max_steps=steps + 1).epochs
    assert "trains 51 epochs, and repeated tokens teach little" in told(plan(workload(max_steps=400_000)))


def test_a_warm_up_longer_than_the_run() -> None:
    line = told(plan(workload(optim=OptimConfig(warmup_steps=1000))))
    assert "the warm-up of 1,000 steps is as long as the run of 1,000: the peak rate is never reached" in line
    assert options(line) == {"warmup_steps": 100}
    assert "is 80% of the run" in told(plan(workload(optim=OptimConfig(warmup_steps=800))))


def test_evaluation_that_costs_more_than_training() -> None:
    costly = plan(workload(eval_every=1))
    line = told(costly)
    assert "validation takes 60 s, training itself 1.84 min" in line
    every = int(options(line)["eval_every"])
    assert "validation" not in told(plan(workload(eval_every=every)))
    assert "validation" in told(plan(workload(eval_every=every - 1)))


def test_a_single_evaluation_that_costs_too_much_gets_fewer_batches() -> None:
    line = told(plan(workload(max_steps=20, eval_batches=60, eval_every=20, save_every=20)))
    batches = int(options(line)["eval_batches"])
    fewer = plan(workload(max_steps=20, eval_batches=batches, eval_every=20, save_every=20))
    assert "validation" not in told(fewer)
    assert 1 <= batches < 60


def test_a_vocabulary_that_the_text_does_not_use() -> None:
    line = told(plan(workload(text=text(vocab_size=50_257, used_vocabulary=9_000))))
    assert "of the tokenizer's 50,257 tokens 9,000 occur in the text" in line
    assert "--data.vocab_size 9000" in line


@pytest.mark.parametrize(("vocab_size", "used"), [(257, 65), (514, 200)])
def test_bytes_that_do_not_occur_are_no_reason_for_another_tokenizer(vocab_size: int, used: int) -> None:
    """Every byte-level tokenizer has them, and a BPE as small has no room for merges."""
    assert "occur in the text" not in told(plan(workload(text=text(vocab_size=vocab_size, used_vocabulary=used))))


def test_the_advised_vocabulary_is_not_advised_again() -> None:
    """Of a BPE nearly all merges occur, and of the 256 bytes as few as there are in tiny Shakespeare."""
    line = told(plan(workload(text=text(vocab_size=50_257, used_vocabulary=65))))
    size = int(options(line)["vocab_size"])
    followed = workload(text=text(vocab_size=size, used_vocabulary=size - 257 + 65))
    assert "occur in the text" not in told(plan(followed))


@pytest.mark.parametrize(
    ("changes", "where", "line"),
    [
        ({"batch_size": 9, "devices": 2}, {"devices": 2}, "among 2 devices: --data.batch_size 10"),
        ({"text": text(val_tokens=10)}, {}, "one of the splits has 10 tokens, and a window takes 17"),
        ({"eval_batches": 1000}, {}, "the held-out text has 782 batches: --run.eval_batches 782"),
        ({}, {"name": "a100", "kind": "cuda"}, "--data.vocab_multiple 64 makes it 320"),
        ({}, {"name": "h200", "kind": "cuda"}, "multiplies at 66.9 of the 989.4 TFLOP/s"),
        ({}, {"load": 1e4}, "other programs kept this machine busy while it was timed (load 10000.0 on"),
    ],
    ids=str,
)
def test_others(changes: dict[str, Any], where: dict[str, Any], line: str) -> None:
    assert line in told(plan(workload(**changes), machine(**where)))


def test_checkpoints_larger_than_the_disk() -> None:
    made = plan(workload(keep=0))
    line = told(made, disk_free=5.5 * made.checkpoint_bytes)
    assert options(line) == {"keep": 4}
    assert told(plan(workload(keep=4)), disk_free=5.5 * made.checkpoint_bytes) == ""


def test_gpt2s_size() -> None:
    """124M, by hand: weights 4 bytes, AdamW 8."""
    config = GPTConfig(
        **{**MODEL, "vocab_size": 50_257, "block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768}
    )
    made = plan(workload(config=config, precision="bf16-mixed"))
    assert sum(made.parameters.values()) == 124_439_808
    assert (made.memory.weights, made.memory.optimizer) == (4 * 124_439_808, 8 * 124_439_808)

"""What a notebook shows of an object that is the last line of a cell: some lines, never all of its numbers."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import random_gpt, tiny_config, tiny_tokenizer, write_checkpoint

import minigpt
from minigpt import interpret
from minigpt.lab.compare.compare import compare
from minigpt.lab.runs import list_runs
from minigpt.lab.scaling.fits import Fit
from minigpt.lab.scaling.law import Law
from minigpt.lab.scaling.runs import ScalingSweep
from minigpt.runs.records import read_run

sys.path.insert(0, str(Path(__file__).parent))
from lab.folders import write_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (1, 2, 3):
        write_run(tmp_path / f"base-s{seed}", [3.0 + seed / 100, 2.5 + seed / 100], seed=seed)
        write_run(tmp_path / f"wide-s{seed}", [2.0 + seed / 100, 1.5 + seed / 100], {"model.n_embd": 32}, seed=seed)
    return tmp_path


def test_a_loaded_model_is_two_lines(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.ckpt", tiny_config(), tiny_tokenizer("byte"))
    told = repr(minigpt.load(tmp_path / "a.ckpt"))
    assert told.count("\n") == 1
    for word in (str(tmp_path / "a.ckpt"), "step ", "parameters", "block_size", "byte tokenizer of 257 tokens", "cpu"):
        assert word in told


def test_a_trace_is_names_and_shapes() -> None:
    model = random_gpt(tiny_config(n_layer=3))
    trace = interpret.trace(model, torch.zeros(1, 4, dtype=torch.long))
    lines = repr(trace).splitlines()
    assert len(lines) < 16
    assert any(line.split("(")[0].split() == ["pattern.0", "..", "2"] for line in lines)
    assert "  logits" in repr(trace)
    assert (
        repr(interpret.trace(model, torch.zeros(1, 4, dtype=torch.long), keep=[])) == "0 activations, each by its name:"
    )


def test_runs_are_a_line_each(runs: Path) -> None:
    assert repr(read_run(runs / "base-s1")) == f"run {runs / 'base-s1'}: stopped, step 20 of 40, 1 checkpoint"
    assert [repr(run).split(",")[0] for run in list_runs(runs)][:1] == ["run base-s1: stopped"]


def test_a_comparison_is_its_claims(runs: Path) -> None:
    write_run(runs / "lr", [3.0, 2.5], {"optim.lr": 0.1})
    found = compare([runs])
    assert repr(found).splitlines() == [
        "7 runs in 3 groups, compared with base",
        next(verdict.text for verdict in found.verdicts if verdict.claim == "better"),
        "no difference can be claimed for 1 groups",
    ]


def test_a_scaling_law_is_three_lines(tmp_path: Path) -> None:
    sweep = ScalingSweep(name="small", folder=tmp_path, runs=[], left_out=["a: failed"])
    law = Law(E=1.0, A=2.0, B=3.0, alpha=0.3, beta=0.3)
    fit = Fit(law=law, resampled=(law,) * 400, residual=0.01, noise=0.01, flops_per_pair=6.0)
    assert repr(sweep) == f"sweep {tmp_path}: 0 finished runs, 1 left out"
    assert repr(fit).endswith("residual 1.00%, 400 bootstrap fits")
    assert len(repr(fit)) < 200

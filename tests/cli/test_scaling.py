"""`minigpt scaling` on run folders whose losses follow a known law, and what is refused in one line."""

import csv
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from minigpt.cli.experiment import read_experiment
from minigpt.cli.main import main
from minigpt.data.tokenizers import ByteTokenizer
from minigpt.lab.scaling.advice import advise
from minigpt.lab.scaling.fits import Fit
from minigpt.lab.scaling.law import Law
from minigpt.lab.scaling.law_file import read_law
from minigpt.lab.scaling.runs import read_sweep
from minigpt.lab.scaling.text import command
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.system.units import flops_text
from minigpt.training.config import Experiment

LAW = Law(E=1.2, A=40.0, B=100.0, alpha=0.3, beta=0.35)
BATCH = 16


def write_run(
    folder: Path,
    n_layer: int,
    n_embd: int,
    flops: float,
    *,
    model: dict[str, Any] | None = None,
    optim: dict[str, Any] | None = None,
    text: str | None = None,
    **changes: Any,
) -> None:
    """A finished run of bytes, as far as scaling reads one; `changes` are of its data."""
    model = {"block_size": 64, "n_layer": n_layer, "n_head": 2, "n_embd": n_embd, **(model or {})}
    config = GPTConfig(vocab_size=ByteTokenizer.vocab_size, **model)
    data = {"corpus": "python", "tokenizer": "byte", "batch_size": BATCH, "vocab_multiple": 1, **changes}
    steps = round(flops / flops_per_token(config) / data["batch_size"] / 64)
    trainer = {"max_steps": steps, "accumulate_grad_batches": 1}
    folder.mkdir(parents=True)
    (folder / ".minigpt").write_text("minigpt run\n", encoding="utf-8")
    groups = {
        "seed_everything": 1,
        "run": {"name": folder.name, "eval_batches": 10},
        "model": model,
        "optim": {"warmup_steps": steps // 10, **(optim or {})},
        "data": data,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({**groups, "trainer": trainer}), encoding="utf-8")
    if text is not None:
        session = {"data_fingerprint": text, "texts": {"train": text, "val": text}}
        (folder / "provenance.json").write_text(json.dumps({"sessions": [session]}), encoding="utf-8")
    (folder / "tokenizer.json").write_text(ByteTokenizer().to_json(), encoding="utf-8")
    loss = LAW.loss(parameter_count(config), steps * data["batch_size"] * 64)
    with (folder / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "train/tokens_per_second", "val/loss"])
        writer.writerows([[steps - 1, 1000, ""], [steps, 2000, loss]])


def write_sweep(folder: Path, states: dict[str, str] | None = None) -> Path:
    names = []
    for budget in (3e11, 1e12, 3e12):
        for n_layer, n_embd in ((1, 32), (2, 48), (3, 64), (3, 96), (4, 128)):
            names.append(f"{budget:.0e}-{n_embd}")
            write_run(folder / names[-1], n_layer, n_embd, budget)
    cells = [{"name": name, "group": name, "state": (states or {}).get(name, "finished")} for name in names]
    (folder / "sweep.json").write_text(json.dumps({"format": 1, "name": folder.name, "cells": cells}), encoding="utf-8")
    return folder


def scaling(sweep: object, *words: str) -> int:
    return main(["scaling", str(sweep), "--bootstraps", "10", *words])


def test_the_law_of_the_runs_is_found_drawn_and_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "small", {"3e+12-128": "diverged"})
    assert scaling(sweep, "--flops", "1e13", "--picture", str(tmp_path / "law.svg")) == 0
    out = capsys.readouterr().out
    assert "left out: 3e+12-128: diverged" in out
    assert "for 1e13 FLOPs: " in out
    assert "--model.n_layer" in out
    fitted = read_law(sweep / "scaling.json")
    assert fitted.law.alpha == pytest.approx(LAW.alpha, rel=0.05)
    assert pytest.approx(LAW.E, rel=0.05) == fitted.law.E
    assert (fitted.corpus, fitted.tokenizer, fitted.vocab_size) == ("python", "byte", 257)
    assert (tmp_path / "law.svg").read_text(encoding="utf-8").startswith("<?xml")
    again = ["--picture", str(tmp_path / "law.svg"), "--law", str(sweep / "scaling.json")]
    assert scaling(sweep, "--flops", "1e13", *again) == 0  # its own are replaced


def test_the_recommended_settings_spend_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling(write_sweep(tmp_path / "small"), "--flops", "2e12") == 0
    experiment = pasted(capsys.readouterr().out)
    config = replace(experiment.model, vocab_size=257)
    steps = experiment.trainer["max_steps"]
    assert flops_per_token(config) * steps * BATCH * 64 == pytest.approx(2e12, rel=0.01)
    assert parameter_count(config) == pytest.approx(LAW.optimum(2e12)[0], rel=0.25)
    assert (tmp_path / "small" / "scaling.png").read_bytes().startswith(b"\x89PNG")


def pasted(out: str) -> Experiment:
    """What `minigpt fit` makes of the printed command."""
    words = shlex.split(next(line for line in out.splitlines() if line.startswith("  minigpt fit ")))
    return read_experiment(words[2:])


@pytest.mark.parametrize("heads", [(1, 1, 2), (4, 5, 2), (8, 8, 8)])
@pytest.mark.parametrize("flops", [2e11, 1e12, 3e13])
def test_the_recommended_command_is_one_run_of_the_runs_own_kind(
    heads: tuple[int, ...], flops: float, tmp_path: Path
) -> None:
    """Whatever their heads: tokens, batch, rate and all else are the runs', and the warm-up is the same share."""
    optim = {"lr": 0.01, "min_lr": 0.001}
    for budget in (3e11, 1e12, 3e12):
        for (n_layer, n_embd), n_head in zip(((1, 40), (2, 80), (3, 120)), heads, strict=True):
            name = f"{budget:.0e} {n_embd}"
            model = {"n_head": n_head, "dropout": 0.0, "n_ff": 3 * n_embd}
            write_run(tmp_path / "odd one" / name, n_layer, n_embd, budget, model=model, optim=optim, batch_size=8)
    fit = Fit(law=LAW, resampled=(LAW,), residual=0.01, noise=0.01, flops_per_pair=6.5)
    advice = advise(fit, None, read_sweep(tmp_path / "odd one").runs, flops)
    experiment = pasted(f"  {command(advice)}")
    config = replace(experiment.model, vocab_size=257)
    steps = experiment.trainer["max_steps"]
    assert config == advice.config
    assert flops_per_token(config) * steps * 8 * 64 == pytest.approx(flops, rel=0.01)
    assert (experiment.data.tokenizer, experiment.data.batch_size, experiment.model.dropout) == ("byte", 8, 0.0)
    assert (experiment.optim.lr, experiment.optim.min_lr) == (0.01, 0.001)
    assert experiment.optim.warmup_steps == pytest.approx(0.1 * steps, abs=0.01 * steps + 1)
    assert experiment.run.name == f"best-{flops_text(flops)}"


def test_the_recommended_run_stands_beside_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not among its cells, wherever the sweep was found: by itself, or in a folder of all runs."""
    sweep = write_sweep(tmp_path / "runs" / "small")
    for folder in (sweep, sweep.parent):
        assert scaling(folder) == 0
        run = pasted(capsys.readouterr().out).run
        assert (Path(run.root), run.name[:5]) == (tmp_path / "runs", "best-")


def test_a_run_without_a_warm_up_in_numbers_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "small")
    write_run(tmp_path / "small" / "odd", 1, 32, 1e12, optim={"warmup_steps": "many"})
    (sweep / "sweep.json").unlink()
    assert scaling(sweep) == 0
    assert "left out: odd: its optim.warmup_steps='many' is not a whole number" in capsys.readouterr().out


def test_hours_are_those_of_the_runs_own_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling(write_sweep(tmp_path / "small"), "--hours", "2") == 0
    config = GPTConfig(vocab_size=257, block_size=64, n_layer=3, n_head=2, n_embd=96)
    expected = flops_per_token(config) * 1500  # the median of 1,000 and 2,000 tokens/s
    told = float(capsys.readouterr().out.split("(2 h at the ")[1].split(" GFLOP/s")[0])
    assert told == pytest.approx(expected / 1e9, rel=0.01)


def test_plan_reads_the_law(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "runs" / "small")
    assert scaling(sweep) == 0
    capsys.readouterr()
    base = str(Path(__file__).parent.parent.parent / "configs" / "base.yaml")
    words = [base, "--data.tokenizer", "byte", "--run.root", str(tmp_path / "runs"), "--device", "l4"]
    words += ["--model.dropout", "0", "--model.n_layer", "2", "--trainer.max_steps", "500"]
    assert main(["plan", *words]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("loss "))
    assert re.search(r"nats a token \([\d.]+ to [\d.]+: nine runs in ten\) by the sweep small of 15 runs", line)
    other = [*words, f"--data.corpus={corpus_file}", f"--law={sweep / 'scaling.json'}", "--trainer.max_steps", "9"]
    assert main(["plan", *other]) == 0
    assert "the law of the sweep small of 15 runs is for python in 257 tokens of byte" in capsys.readouterr().out


def test_a_yaml_without_runs_names_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "s.yaml"
    sweep.write_text("name: big\nbase: base.yaml\n", encoding="utf-8")
    assert scaling(sweep, "--root", str(tmp_path)) == 1
    assert f"the sweep {sweep} has no runs yet: minigpt sweep {sweep}" in capsys.readouterr().err
    write_sweep(tmp_path / "big")
    assert scaling(sweep, "--root", str(tmp_path)) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flops", "-1"], "--flops -1.0 must be a finite number above 0"),
        (["--hours", "nan"], "--hours nan must be a finite number above 0"),
        (["--bootstraps", "3"], "--bootstraps 3 must be 10 or more"),
        (["--picture", "law.gif"], "--picture law.gif must end in .png or .svg"),
        (["--law", "no/where/law.json"], "--law no/where/law.json: there is no folder no/where"),
    ],
    ids=str,
)
def test_bad_options(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling(tmp_path, *words) == 2
    assert message in capsys.readouterr().err


def test_bad_sweeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(folder: Path) -> str:
        assert scaling(folder) == 1
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert not captured.out
        return captured.err

    (tmp_path / "one.yaml").write_text("model: {n_layer: 1}\n", encoding="utf-8")
    assert f"error: {tmp_path / 'one.yaml'}: is no sweep file, which has a base: a law" in said(tmp_path / "one.yaml")
    write_run(tmp_path / "one", 1, 16, 1e11)
    assert f"error: {tmp_path / 'one'}: is a single run, and a law needs several: give" in said(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    assert "holds no finished run; minigpt sweep makes some" in said(tmp_path / "empty")
    assert "no such folder of a sweep, and no YAML file of one, did you mean empty?" in said(tmp_path / "empt")
    for number in range(5):
        write_run(tmp_path / "few" / str(number), 1, 16 * (number + 1), 1e11)
    assert "needs 6 finished runs or more, of 3 sizes and 3 numbers of tokens: there are 5, of 5 and 5" in said(
        tmp_path / "few"
    )
    write_run(tmp_path / "few" / "other", 1, 16, 1e11, corpus="shakespeare")
    assert "runs of more than one corpus (python, shakespeare)" in said(tmp_path / "few")
    for number in range(6):
        text = "0123456789" if number else "9876543210"
        write_run(tmp_path / "texts" / str(number), 1, 16 * (number + 1), 1e11, corpus="input.txt", text=text)
    names = "input.txt (text 01234567), input.txt (text 98765432)"
    assert f"runs of more than one corpus ({names})" in said(tmp_path / "texts")
    (tmp_path / "few" / "sweep.json").write_text('{"format": 1, "name": "few", "ce', encoding="utf-8")
    assert "sweep.json is damaged" in said(tmp_path / "few")
    (tmp_path / "cut").mkdir()
    write_run(tmp_path / "cut" / "run", 1, 16, 1e11)
    (tmp_path / "cut" / "run" / "metrics.csv").write_text("step,val/loss\n1,2.0\n", encoding="utf-8")
    assert "run: it has no validation loss at its last step" in said(tmp_path / "cut")


def test_one_text_by_several_names_has_one_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, n_embd in enumerate((16, 32, 48, 64, 80, 96)):
        write_run(tmp_path / "s" / str(number), 1 + number % 3, n_embd, 1e11, corpus=f"./{number}.txt", text="one")
    assert scaling(tmp_path / "s") == 0
    assert "not recorded" not in capsys.readouterr().out
    assert read_law(tmp_path / "s" / "scaling.json").data.val == "one"


def test_runs_that_do_not_say_their_text_have_a_law_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scaling(write_sweep(tmp_path / "small")) == 0
    assert "it is not recorded for every run which text it was validated on" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2}', '{"format": 2, "law": {"E": -1}}', "[" * 2000])
def test_a_damaged_law_is_one_line(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scaling.json"
    path.write_text(content, encoding="utf-8")
    base = str(Path(__file__).parent.parent.parent / "configs" / "base.yaml")
    assert main(["plan", base, "--law", str(path), "--device", "l4"]) == 1
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(("option", "name"), [("--picture", "mine.png"), ("--law", "mine.json")])
def test_a_file_of_somebody_else_is_not_replaced(
    option: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text('{"mine": 1}', encoding="utf-8")
    assert scaling(write_sweep(tmp_path / "small"), option, str(tmp_path / name)) == 2
    assert "is there, and minigpt scaling did not write it: name another file" in capsys.readouterr().err
    assert (tmp_path / name).read_text(encoding="utf-8") == '{"mine": 1}'

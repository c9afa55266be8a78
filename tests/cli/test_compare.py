"""`minigpt compare`: what a terminal, a pipe and a program get; and runs that were really trained."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from lab.folders import write_run, write_sweep
from training.tiny import tiny_experiment

from minigpt.cli.main import main
from minigpt.lab.compare.compare import compare
from minigpt.lab.compare.result import as_plain
from minigpt.training.fit import fit


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/ with three seeds of two settings; the names are long."""
    monkeypatch.chdir(tmp_path)
    for n in (1, 2, 3):
        write_run(Path("runs") / f"{'a' * 60}-s{n}", [3.0, 2.5, 2.2, 2.0 + n / 100], seed=n)
        write_run(Path("runs") / f"rotary-s{n}", [3.0, 2.4, 2.1, 1.9 + n / 100], {"model.position": "rotary"}, seed=n)
    return tmp_path


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["compare", *words])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return code, captured.err


def test_pipe_gets_plain_text(runs: Path) -> None:
    (runs / "runs" / "rotary-s3" / "metrics.csv").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "minigpt", "compare", "runs", "--baseline", "learned"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "40", "TERM": "xterm-256color"},
    )  # fmt: skip
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "settings that differ", "group               model.position", "rotary              rotary",
        "learned (baseline)  learned",
    ]  # fmt: skip
    assert "rotary                  2  1.9150 ± 0.0635  2.7628 ± 0.0917       640       7,424" in lines
    assert "rotary-s3  finished  its metrics.csv is missing or empty" in lines
    assert any(line.startswith("rotary is better than learned by 0.105 ± ") for line in lines)
    assert not (runs / "report").exists()


def test_json_is_what_python_gets(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs", "--json", "--by", "best"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found = json.loads(out)
    assert found == json.loads(json.dumps(as_plain(compare(["runs"], by="best"))))
    assert found["verdicts"][0]["claim"] in {"better", "worse"}
    assert found["by"] == "best"


def test_report_goes_where_it_is_wanted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "runs", "--out", "there/it"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "report: there/it/report.html"
    assert Path("there/it/curves.png").is_file()
    cells = [{"name": f"rotary-s{n}", "group": "base", "seed": n, "state": "finished"} for n in (1, 2, 3)]
    write_sweep(runs / "runs", cells)
    assert main(["compare", "runs"]) == 0
    assert Path("runs/report/report.html").is_file()
    assert main(["compare", "runs"]) == 0  # a second time: the report is no run


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "the following arguments are required: RUN"),
        (["rotary-s9"], "no run or sweep at rotary-s9, did you mean rotary-s"),
        (["runs", "--by", "last"], "argument --by: invalid choice: 'last'"),
        (["runs", "--by", "fianl"], ", did you mean final?"),
        (["runs", "--out", "/proc/foo"], "--out /proc/foo must be a folder that can be written: "),
        (["runs", "--baseline", "rotery"], "--baseline rotery: no group or run of that name, did you mean rotary?"),
        (["runs", "--outt", "x"], "unknown option --outt, did you mean --out?"),
        (["runs", "--out", "runs/rotary-s1/config.yaml"], "config.yaml is a file: it must be a folder"),
        (["runs/rotary-s1/checkpoints"], "is not a run's folder: it has no config.yaml; its run is runs/rotary-s1"),
    ],
)
def test_bad_input_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    code, line = refusal(capsys, *words)
    assert code in {1, 2}
    assert reason in line


def test_one_group_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same run twice is one."""
    assert main(["compare", "rotary-s1", "runs/rotary-s1", "--out", "report"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-2] == "one group: nothing to compare it with"
    assert "±" not in out
    assert "one group: nothing to compare it with" in (runs / "report" / "report.html").read_text()


def test_help_says_no_default_twice(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("compare", "runs", "sweep", "validate"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert not re.search(r"\(default: (None|False|\[\])\)", text)
        assert ") (default" not in text
        assert ("(default: age)" in text) == (command == "runs")


def test_run_without_curves(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "runs" / "rotary-s1" / "metrics.csv").unlink()
    assert refusal(capsys, "rotary-s1", "rotary-s2") == (
        1, "minigpt: error: runs/rotary-s1 holds no curves: its metrics.csv is missing or empty (it is finished)\n",
    )  # fmt: skip


def test_runs_that_were_trained(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seeds of two learning rates, through fit; the rate that is far too small is worse."""
    monkeypatch.chdir(tmp_path)
    for lr in (1e-2, 1e-5):
        for seed in (1, 2, 3):
            experiment = tiny_experiment(
                Path("runs"), corpus_file, seed_everything=seed, optim__lr=lr, run__name=f"lr{lr}-s{seed}",
                run__sample_every=12, run__sample_prompt="line",
            )  # fmt: skip
            assert fit(replace(experiment, yaml=yaml.safe_dump(experiment.settings()))) == 0
    capsys.readouterr()
    assert main(["compare", "runs", "--baseline", "lr=0.01", "--out", "report"]) == 0
    out = capsys.readouterr().out
    found = compare(["runs"], baseline="lr=0.01")
    assert {run.state for run in found.runs} == {"finished"}
    assert found.measure == "loss"
    assert found.runs[0].steps == 12
    assert found.runs[0].tokens == 12 * 4 * 16
    assert found.verdicts[0].claim == "worse"
    assert found.verdicts[0].text in out
    assert found.verdicts[0].method == "paired"
    page = Path("report/report.html").read_text()
    assert page.count("<article>") == 2
    assert "<pre>line" in page


def test_a_report_replaces_no_file_of_somebody_else(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/report.html").write_text("<p>my thesis</p>")
    assert main(["compare", "runs", "--out", "mine"]) == 2
    assert "--out mine holds report.html, which minigpt compare did not write" in capsys.readouterr().err
    assert Path("mine/report.html").read_text() == "<p>my thesis</p>"
    for _ in range(2):
        assert main(["compare", "runs", "--out", "ours"]) == 0
    Path("ours/.minigpt").unlink()  # a report of before there were marks
    assert main(["compare", "runs", "--out", "ours"]) == 0

"""`minigpt runs`: the list, and a clean-up that asks."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from lab.folders import write_run

from minigpt.cli.main import main


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs/whole"), [3.0, 2.5, 2.2, 2.0])
    write_run(Path("runs/half"), [3.0, 2.5])
    write_run(Path("runs/sweep/none"), [])
    return tmp_path / "runs"


def test_list_in_a_pipe(runs: Path) -> None:
    write_run(runs / ("a" * 80), [3.0])
    done = subprocess.run(
        [sys.executable, "-m", "minigpt", "runs", "--sort", "loss"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "40"},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    *rows, reason = lines
    assert [line.split()[0] for line in rows] == ["run", "whole", "half", "a" * 80, "sweep/none"]
    assert reason.startswith("sweep/none failed: ")
    assert "\x1b" not in done.stdout


def test_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--json", "--where", "finished"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["name"], run["state"], run["step"], run["loss"]) == ("whole", "finished", 40, 2.0)
    assert run["folder"] == "runs/whole"


def test_nothing_to_list(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--where", "diverged"]) == 0
    assert capsys.readouterr().out == "no run of this kind in runs\n"


def test_value_that_no_run_has(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "other", [3.0], {"model.position": "rotary"})
    assert main(["runs", "--where", "finished", "model.position=rotery"]) == 0
    told = "no run of this kind in runs: model.position is learned, rotary, never rotery, did you mean rotary?\n"
    assert capsys.readouterr().out == told
    assert main(["runs", "--where", "finished", "model.position=rotary"]) == 0  # each by itself is met
    assert capsys.readouterr().out == "no run of this kind in runs\n"


def test_clean_asks_first(runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ("n\n", "\n", "", "yes please\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert main(["runs", "--clean", "failed", "stopped"]) == 0
        told = capsys.readouterr()
        assert "half" in told.out
        assert "whole" not in told.out
        assert told.out.endswith("nothing is deleted\n")
        assert told.err.startswith("delete 2 runs, ")
        assert (runs / "half").is_dir()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert main(["runs", "--clean", "failed", "stopped"]) == 0
    assert not (runs / "half").exists()
    assert not (runs / "sweep" / "none").exists()
    assert (runs / "whole").is_dir()


def test_clean_with_yes_deletes_what_the_filter_leaves(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(runs / "other", [3.0, 2.5], {"model.position": "rotary"})
    assert main(["runs", "--clean", "stopped", "--where", "model.position=rotary", "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "deleted runs/other"
    assert (runs / "half").is_dir()
    assert main(["runs", "--clean", "diverged", "--yes"]) == 0
    assert capsys.readouterr().out == "nothing to delete in runs\n"


def test_a_running_one_is_never_deleted(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(runs / "half" / ".lock"):
        assert main(["runs", "--clean", "stopped", "failed", "finished", "--yes"]) == 0
    assert [path.name for path in sorted(runs.iterdir())] == ["half", "sweep"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["rums"], "no folder rums that holds runs, did you mean runs?"),
        (["runs/half"], "runs/half is a run itself: runs takes the folder that holds it"),
        (["--sort", "date"], "argument --sort: invalid choice: 'date'"),
        (["--sort", "los"], ", did you mean loss?"),
        (["--where", "state=stopped"], "--where state=stopped: a state is written alone, as in --where stopped"),
        (["--where", "finishd"], "did you mean finished?"),
        (["--where", "optim.rl=1"], "no run has a setting optim.rl, did you mean optim.lr?"),
        (["--clean", "running"], "--clean running: a running run is never deleted; stop it first"),
        (["--clean", "faild"], "--clean faild must be one of finished, stopped, diverged, failed, damaged"),
        (["--yes"], "--yes does nothing without --clean"),
        (["--clean", "failed", "--json"], "--json lists runs: leave out --clean"),
    ],
)
def test_bad_input_is_one_line(runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str) -> None:
    assert main(["runs", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert reason in captured.err


def test_clean_without_anybody_to_ask(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["runs", "--clean", "stopped"]) == 2
    assert "give --yes to delete the runs listed above" in capsys.readouterr().err
    assert (runs / "half").is_dir()


def test_clean_leaves_what_no_run_ever_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "pj" / "other"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("lr: 0.1")
    (other / "thesis.tex").write_text("precious")
    gone = tmp_path / "pj" / ".other.gone-4194305"  # a name as of a killed clean-up, whose process is gone
    gone.mkdir()
    (gone / "thesis.tex").write_text("precious")
    for states in (["damaged"], ["failed", "finished", "stopped", "diverged", "damaged"]):
        assert main(["runs", str(tmp_path / "pj"), "--clean", *states, "--yes"]) == 0
        assert capsys.readouterr().out == f"nothing to delete in {tmp_path / 'pj'}\n"
    assert (other / "thesis.tex").read_text() == (gone / "thesis.tex").read_text() == "precious"
    assert main(["runs", str(tmp_path / "pj")]) == 0
    assert capsys.readouterr().out.startswith("no run in ")


def test_clean_never_deletes_what_lies_beside_a_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "half" / "notes.md").write_text("precious")
    write_run(runs / "whole" / "inner", [3.0])
    assert main(["runs", "--clean", "stopped", "finished", "failed", "--yes"]) == 1
    out = capsys.readouterr().out
    assert "kept runs/half (stopped): it holds notes.md, which no run writes: move that away first" in out
    assert "kept runs/whole (finished): it holds inner/, which no run writes: move that away first" in out
    assert "failed: runs/sweep/none: it ended before its first checkpoint" in out
    assert out.endswith("deleted runs/sweep/none\n")
    assert (runs / "half" / "notes.md").read_text() == "precious"
    assert (runs / "half" / "config.yaml").is_file()
    assert (runs / "whole" / "inner").is_dir()


def test_the_working_folder_is_kept(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs / "half" / "checkpoints")
    assert main(["runs", "../..", "--clean", "stopped", "--yes"]) == 1
    assert "(stopped): it is the working folder" in capsys.readouterr().out
    assert (runs / "half").is_dir()

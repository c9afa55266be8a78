"""Sweeps as real processes: killed, stopped, gone on with; by Ray and as SLURM tasks; the losses are those of plain
runs."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.sweeps import kill, losses, processes_of, start, states, wait_for, write_sweep
from minigpt.cli.main import main
from minigpt.runs.metrics_csv import CURVES, read_metrics

LONG = {"trainer.max_steps": 400, "run.save_every": 20}
"""Long enough to be killed on the way: seconds."""


def straight(folder: Path, seed: int, *words: str) -> list[tuple[str, str, str]]:
    """The losses of a plain run with the sweep's base config."""
    root = folder / "straight"
    command = ["fit", "--config", str(folder / "base.yaml"), f"--run.root={root}", f"--run.name=s{seed}"]
    assert main([*command, f"--seed_everything={seed}", *words]) == 0
    return losses(root / f"s{seed}")


def test_killed_then_stopped_then_finished(tmp_path: Path, corpus_file: Path) -> None:
    path = write_sweep(tmp_path, corpus_file, seeds=[3], overrides=LONG, cells=[{}, {"name": "wild", "optim.lr": 1e30}])
    cell = tmp_path / "runs" / "exp" / "base,seed=3"
    first = start(path, "--jobs=1")
    wait_for(lambda: len(list(cell.glob("checkpoints/step=*"))) > 1)
    kill(first)
    assert states(path)["base,seed=3"] == "running"  # as it was when the power went

    second = start(path, "--jobs=1")
    wait_for(
        lambda: '"step"' not in (cell / "stdout.log").read_text() and "from step" in (cell / "stdout.log").read_text()
    )
    frozen = processes_of(f"--run.root={tmp_path}/runs/exp")  # or a quick machine would be done meanwhile
    for child in frozen:
        os.kill(child, signal.SIGSTOP)
    late = start(path)
    assert late.communicate() == ("", f"minigpt: error: {tmp_path}/runs/exp: another process is running this sweep\n")
    second.send_signal(signal.SIGINT)
    for child in frozen:
        os.kill(child, signal.SIGCONT)
    out, err = second.communicate(timeout=120)
    assert (second.returncode, err) == (130, "")
    assert "stopped: the same command resumes" in out
    assert set(states(path).values()) == {"waiting"}
    assert processes_of(f"--run.root={tmp_path}/runs/exp") == []  # neither session left one

    third = start(path, "--jobs=1")
    out, err = third.communicate(timeout=200)
    assert (third.returncode, err) == (1, "")  # one of them did not come out well
    assert "running   base,seed=3  from step" in out
    assert states(path) == {"base,seed=3": "finished", "wild,seed=3": "diverged"}
    assert [found.name for found in (tmp_path / "runs").iterdir()] == ["exp"]  # no folder was taken a second time
    record = json.loads((tmp_path / "runs" / "exp" / "sweep.json").read_text())["cells"][1]
    assert record["reason"].startswith("the loss is not finite")
    assert losses(cell) == straight(tmp_path, 3, "--trainer.max_steps=400", "--run.save_every=20")


def test_by_ray_with_two_workers(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    path = write_sweep(tmp_path, corpus_file, seeds=[3, 4], cells=[{}])
    assert main(["sweep", str(path), "--engine=ray", "--jobs=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["running", "running"]  # at the same time
    assert set(states(path).values()) == {"finished"}
    assert losses(tmp_path / "runs" / "exp" / "base,seed=4") == straight(tmp_path, 4)


FAKE_SBATCH = r"""
import os, re, shlex, subprocess, sys
lines = [line for line in open(sys.argv[1], encoding="utf-8") if line.startswith("#SBATCH ")]
given = dict((word + "=").split("=", 1) for line in lines for word in shlex.split(line)[1:])
options = {name: value.removesuffix("=") for name, value in given.items()}
known = {"%%": "%", "%A": "77", "%a": "1"}
log = re.sub("%.", lambda match: known[match[0]], options["--output"])
with open(log, "w") as out:
    task = {**os.environ, "SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": options["--cpus-per-task"]}
    code = subprocess.call(["bash", sys.argv[1]], env=task, cwd="/", stdout=out, stderr=out)
print(options["--job-name"], log, sep="\n")
sys.exit(code)
"""
"""As far as a script of ours goes: quotes in its options are the shell's, and %% in a log's name is a %."""


def test_a_name_that_shells_and_slurm_would_read_as_something_else(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = 'my sweep\'s "%a" [red] $HOME #1'
    path = write_sweep(tmp_path, corpus_file, seeds=[3, 4], cells=[{}])
    (tmp_path / "sbatch.py").write_text(FAKE_SBATCH, encoding="utf-8")
    assert main(["sweep", str(path), "--engine=slurm", "--name", name]) == 0
    folder = tmp_path / "runs" / name
    told, line = capsys.readouterr().out.splitlines()
    assert told == f"{folder}/slurm.sh: 2 cells; submit it with"
    line = f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path))}/{line.replace('sbatch', 'sbatch.py', 1)}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [name, f"{folder}/slurm-77_1.out"]
    content = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    assert [cell["state"] for cell in content["cells"]] == ["waiting", "finished"]


def test_as_a_task_of_a_slurm_array(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, corpus_file, seeds=[3, 4, 5], cells=[{}])
    assert main(["sweep", str(path), "--engine=slurm", "--jobs=2"]) == 0
    script = tmp_path / "runs" / "exp" / "slurm.sh"
    assert f"sbatch {script}\n" in capsys.readouterr().out
    assert "#SBATCH --array=0-2%2\n" in script.read_text()
    for _ in range(2):  # the second time there is nothing to do
        task = subprocess.run(
            ["bash", str(script)], env={**os.environ, "SLURM_ARRAY_TASK_ID": "1"}, capture_output=True, text=True
        )
        assert (task.returncode, task.stderr) == (0, "")
    assert task.stdout == "finished  base,seed=4\n"
    assert states(path) == {"base,seed=3": "waiting", "base,seed=4": "finished", "base,seed=5": "waiting"}
    assert main(["sweep", str(path), "--engine=slurm"]) == 0
    assert "#SBATCH --array=0,2\n" in script.read_text()


def test_a_search(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    space = {"optim.lr": {"low": 1e-3, "high": 1e-2, "log": True}, "model.n_head": {"choices": [1, 2]}}
    path = write_sweep(tmp_path, corpus_file, seeds=[3], search={"trials": 1, "space": space})
    assert main(["sweep", str(path)]) == 0
    out = capsys.readouterr().out
    assert states(path) == {"trial=000,seed=3": "finished"}
    final = losses(tmp_path / "runs" / "exp" / "trial=000,seed=3")[-1][2]
    assert f"best: trial=000, {float(final):.4f}, --optim.lr=" in out
    assert set(read_metrics(tmp_path / "runs" / "exp" / "trial=000,seed=3" / "metrics.csv")[10]) == set(CURVES)
    assert main(["sweep", str(path)]) == 0  # all its trials are there
    assert "running" not in capsys.readouterr().out


def test_a_search_without_a_single_trial(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    space = {"model.n_head": {"choices": [3, 5]}, "model.n_embd": {"choices": [18, 20]}}  # the seed draws 5 and 18
    path = write_sweep(tmp_path, corpus_file, seeds=[3], search={"trials": 1, "seed": 0, "space": space})
    for _ in range(2):  # what is recorded is no better the second time
        assert main(["sweep", str(path)]) == 1
        out, err = capsys.readouterr()
        assert states(path) == {"trial=000,seed=3": "failed"}
        assert err.startswith(f"minigpt: error: {tmp_path}/runs/exp: none of the 1 trials reached a val/loss; ")
        assert "must be divisible by model.n_head" in err
        assert err.count("\n") == 1
    assert "best" not in out

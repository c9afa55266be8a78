"""The list of runs: sorted, filtered, cleaned without ever leaving half a run."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from minigpt.cli.main import main
from minigpt.errors import ConfigError
from minigpt.lab import runs as module
from minigpt.lab.clean import remove_leftovers_below, remove_run
from minigpt.lab.runs import filter_runs, list_runs, runs_table, sort_runs
from minigpt.system.tables import Table, show
from minigpt.training.folders import record_end

from .folders import write_run, write_sweep


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write_run(root / "old", [3.0, 2.5, 2.2, 2.0], started="2020-01-01T00:00:00+00:00", seed=3)
    write_run(root / "sweep" / "cell", [3.0, 1.5], {"model.position": "rotary"}, started="2024-01-01T00:00:00+00:00")
    big = write_run(root / "big", [3.0, float("nan")], started="2022-01-01T00:00:00+00:00")
    (big / "weights").write_bytes(b"x" * 1_000_000)
    write_run(root / "empty", [])
    (write_run(root / "broken", [3.0]) / "config.yaml").write_text("run: {")
    return root


def names(runs: list) -> list[str]:
    return [run.name for run in runs]


def test_every_run_is_listed_with_its_state(root: Path) -> None:
    with FileLock(root / "old" / ".lock"):
        found = {run.name: (run.state, run.step, run.loss) for run in list_runs(root)}
    assert found.pop("big")[:2] == ("diverged", 20)
    assert found == {
        "old": ("running", 40, 2.0),
        "sweep/cell": ("stopped", 20, 1.5),
        "empty": ("failed", 0, None),
        "broken": ("damaged", None, None),
    }


def test_sorting(root: Path) -> None:
    runs = list_runs(root)
    assert names(sort_runs(runs, "name")) == ["big", "broken", "empty", "old", "sweep/cell"]
    assert names(sort_runs(runs, "loss"))[:2] == ["sweep/cell", "old"]
    assert names(sort_runs(runs, "size"))[0] == "big"
    assert names(sort_runs(runs, "age"))[-2:] == ["big", "old"]


def test_filters(root: Path) -> None:
    runs = list_runs(root)
    assert names(filter_runs(runs, ["stopped"])) == ["sweep/cell"]
    assert names(filter_runs(runs, ["model.position=rotary"])) == ["sweep/cell"]
    assert names(filter_runs(runs, ["optim.lr=1e-3", "finished"])) == ["old"]
    assert names(filter_runs(runs, ["seed_everything=3"])) == ["old"]
    assert names(filter_runs(runs, ["optim.lr=abc"])) == []


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("finishd", r"neither a state .* nor KEY=VALUE, did you mean finished\?"),
        ("model.positon=rotary", r"no run has a setting model.positon, did you mean model.position\?"),
    ],
)
def test_filter_that_means_nothing(root: Path, condition: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        filter_runs(list_runs(root), [condition])


def test_folder_that_holds_no_runs(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder .*rums that holds runs, did you mean runs\?"):
        list_runs(root.parent / "rums")
    with pytest.raises(ConfigError, match="old is a run itself"):
        list_runs(root / "old")
    assert list_runs(root / "sweep" / "cell" / "checkpoints") == []


def by_name(root: Path, name: str) -> module.ListedRun:
    return next(run for run in list_runs(root) if run.name == name)


def test_removal(root: Path) -> None:
    for name in ("sweep/cell", "broken"):
        assert remove_run(by_name(root, name)) is None
        assert not (root / name).exists()
    assert list((root / "sweep").iterdir()) == []
    assert {path.name for path in root.iterdir()} == {"old", "sweep", "big", "empty"}


def test_run_that_has_begun_meanwhile_is_kept(root: Path) -> None:
    listed = by_name(root, "sweep/cell")
    with FileLock(root / "sweep" / "cell" / ".lock"):
        assert remove_run(listed) == "it is running now"
    assert (root / "sweep" / "cell" / "config.yaml").is_file()


def test_run_that_has_ended_otherwise_meanwhile_is_kept(root: Path) -> None:
    listed = by_name(root, "empty")
    (root / "empty" / "checkpoints").mkdir()
    (root / "empty" / "checkpoints" / "step=00000040.ckpt").touch()
    assert remove_run(listed) == "it is finished now"


def test_link_to_a_run_is_kept(root: Path) -> None:
    (root / "link").symlink_to(root / "old")
    assert remove_run(by_name(root, "link")) == "it is a link"
    assert (root / "old" / "config.yaml").is_file()


def test_kill_amid_a_removal_leaves_no_half_run(root: Path) -> None:
    """The process dies after it deleted one file: the name is free, and the next clean-up does the rest."""
    code = (
        "import os, shutil, sys; from pathlib import Path; from minigpt.system import files\n"
        "def half(path, *args, **kwargs):\n"
        "    next(p for p in Path(path).rglob('*') if p.is_file()).unlink(); os._exit(9)\n"
        "shutil.rmtree = half; files.remove_folder(Path(sys.argv[1]), last='.minigpt')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root / "old")], check=False)
    assert done.returncode == 9
    assert not (root / "old").exists()
    assert "old" not in names(list_runs(root))
    hidden = [path for path in root.iterdir() if path.name.startswith(".old.gone-")]
    assert len(hidden) == 1
    mine = root / "sweep" / f".cell.gone-{os.getpid()}"  # of a process that is still at it
    mine.mkdir()
    remove_leftovers_below(root)
    assert not hidden[0].exists()
    assert mine.exists()


def test_table(root: Path) -> None:
    text = runs_table([by_name(root, "old"), by_name(root, "broken")]).plain().splitlines()
    assert text[0].split() == ["run", "state", "age", "step", "loss", "size"]
    assert text[1].split()[:2] == ["old", "finished"]
    assert "40/40" in text[1]
    assert "2.0000" in text[1]
    assert text[2].split()[:2] == ["broken", "damaged"]
    assert len({len(line) for line in text}) == 1  # the last column is aligned on the right


def test_the_table_shows_what_differs(tmp_path: Path) -> None:
    """Every value where few settings differ, and else those that most runs have otherwise; a damaged run has none."""
    write_run(tmp_path / "a", [2.0])
    write_run(tmp_path / "b", [2.0], {"optim.lr": 0.01, "run.log_every": 7})
    (write_run(tmp_path / "c", [2.0]) / "config.yaml").write_text("run: {")
    table = runs_table(sort_runs(list_runs(tmp_path), "name"))
    assert [row[-1] for row in table.rows] == ["lr=0.001", "lr=0.01", ""]
    assert table.columns[-1] == "differing settings"
    write_run(tmp_path / "d", [2.0], {"model.n_head": 1, "model.n_layer": 3, "data.batch_size": 2}, seed=2)
    write_run(tmp_path / "e", [2.0], {f"model.x{number}": 1 for number in range(6)})
    told = [row[-1] for row in runs_table(sort_runs(list_runs(tmp_path), "name")).rows]
    assert told[:2] == ["", "lr=0.01"]
    assert told[3] == "seed_everything=2, n_layer=3, n_head=1, batch_size=2"
    assert told[4] == "x0=1, x1=1, x2=1, x3=1 and 2 more"
    assert all(len(line) <= 80 for line in shown_at(80, table))


def shown_at(width: int, table: Table) -> list[str]:
    """The lines on a terminal."""
    output = io.StringIO()
    show(Console(file=output, width=width, force_terminal=True, color_system=None), table)
    return output.getvalue().splitlines()


def test_why_a_run_failed_is_told(tmp_path: Path) -> None:
    """By its own last session, by its sweep, or that it left no word."""
    write_run(tmp_path / "killed", [])
    failed = write_run(tmp_path / "failed", [])
    record_end(failed, error="first line\n  shapes do not match\n")
    cell = {"name": "a", "group": "a", "state": "failed", "reason": "n_embd must be even"}
    sweep = write_sweep(tmp_path / "sweep", [cell])
    write_run(sweep / "a", [])
    reasons = {run.name: run.reason for run in list_runs(tmp_path)}
    assert reasons["failed"] == "shapes do not match"
    assert reasons["sweep/a"] == "n_embd must be even"
    assert "without a message" in reasons["killed"]
    assert main(["runs", str(tmp_path)]) == 0


def test_early_end_is_told(tmp_path: Path) -> None:
    """Until the run goes on: a later session has its own end."""
    run = write_run(tmp_path / "early", [3.0, 2.0])
    record_end(run, stopped_early="time limit at step 20 of 40")
    (listed,) = list_runs(tmp_path)
    assert (listed.state, listed.reason) == ("stopped", "stopped early: time limit at step 20 of 40")
    write_run(tmp_path / "done", [3.0, 2.0, 1.9, 1.8])
    record_end(tmp_path / "done", stopped_early="time limit at step 20 of 40")
    assert {each.name: each.reason for each in list_runs(tmp_path)}["done"] == ""

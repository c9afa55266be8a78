"""The record, the processes and the view of a sweep, each alone and without a training."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from filelock import FileLock, Timeout
from rich.console import Console

from lab.sweeps import BASE, Fake, cells, quiet_view, run_of, sweep, write_metrics
from minigpt.cli.sweep import engines
from minigpt.errors import ConfigError
from minigpt.lab.sweep.cell import CellProcess, CellRun, Outcome
from minigpt.lab.sweep.file import EngineName
from minigpt.lab.sweep.folder import CellRecord, SweepFolder
from minigpt.lab.sweep.progress import Progress, read_curve, read_progress
from minigpt.lab.sweep.record import read_cells
from minigpt.lab.sweep.run import CellList, supervise
from minigpt.lab.sweep.view import LiveView
from minigpt.runs.paths import LOCK


def test_engines_are_the_ones_with_a_name() -> None:
    assert tuple(engines()) == get_args(EngineName)


def test_cells_are_added_and_what_became_of_others_is_kept(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "exp", sweep("a", "b"), BASE)
    assert not (tmp_path / "exp").exists()  # nothing is written before it is locked
    with folder.locked():
        folder.set_state("a,seed=1", "failed", "no room")
    more = SweepFolder(tmp_path / "exp", sweep("a", "b", "c"), BASE + "# a comment more\n")
    with more.locked():
        assert [record.state for record in more.current()] == ["failed", "waiting", "waiting"]
        with pytest.raises(ConfigError, match="another process is running this sweep"), folder.locked():
            pass
    less = SweepFolder(tmp_path / "exp", sweep("b"), BASE)
    assert [record.cell.name for record in less.current()] == ["b,seed=1"]
    assert list(less.records) == ["a,seed=1", "b,seed=1", "c,seed=1"]
    content = json.loads((tmp_path / "exp" / "sweep.json").read_text())
    assert content["cells"][0] == {
        "name": "a,seed=1", "group": "a", "overrides": {"data.corpus": "a"}, "seed": 1, "state": "failed",
        "reason": "no room",
    }  # fmt: skip
    assert (content["format"], content["name"], content["base"], content["seeds"]) == (1, "exp", "base.yaml", [1])


def test_cells_of_a_killed_sweep_wait_but_not_one_that_is_trained(tmp_path: Path) -> None:
    """A kill leaves `running` in the record; a task of an array holds the lock of its cell's folder alone."""
    killed = SweepFolder(tmp_path / "exp", sweep("a", "b"), BASE)
    killed.prepare()
    for name in ("a,seed=1", "b,seed=1"):
        killed.set_state(name, "running")
    (tmp_path / "exp" / "b,seed=1").mkdir()
    with FileLock(tmp_path / "exp" / "b,seed=1" / LOCK):
        again = SweepFolder(tmp_path / "exp", sweep("a", "b"), BASE)
        with again.locked():
            assert [record.state for record in again.current()] == ["waiting", "running"]
    assert [cell.state for cell in read_cells(tmp_path / "exp")] == ["waiting", "running"]


def test_what_a_task_records_while_a_sweep_begins_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the record's two locks of `locked`."""
    task, one = (SweepFolder(tmp_path / "exp", sweep("a"), BASE) for _ in range(2))
    prepare = SweepFolder.prepare

    def prepared(folder: SweepFolder) -> None:
        prepare(folder)
        task.set_state("a,seed=1", "finished")

    task.prepare()
    monkeypatch.setattr(SweepFolder, "prepare", prepared)
    with one.locked():
        assert [record.state for record in one.current()] == ["finished"]
    assert [cell.state for cell in read_cells(tmp_path / "exp")] == ["finished"]


def test_two_processes_record_at_the_same_time(tmp_path: Path) -> None:
    """As tasks of an array do: neither forgets what the other has recorded."""
    one, other = (SweepFolder(tmp_path / "exp", sweep("a", "b"), BASE) for _ in range(2))
    one.prepare()
    other.prepare()
    one.set_state("a,seed=1", "finished")
    other.set_state("b,seed=1", "finished")
    read = SweepFolder(tmp_path / "exp", sweep("a", "b"), BASE)
    assert [record.state for record in read.current()] == ["finished", "finished"]


def test_leftovers_go_when_nobody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of an array writes sweep.json by a temporary file without the sweep's lock, but under the record's."""
    held = []

    def look(path: Path, is_ours: object = None) -> None:
        try:
            with FileLock(path / ".record.lock", timeout=0):
                held.append(False)
        except Timeout:
            held.append(True)

    monkeypatch.setattr("minigpt.lab.sweep.folder.remove_leftovers", look)
    with SweepFolder(tmp_path / "exp", sweep("a"), BASE).locked():
        look(tmp_path / "exp")
    assert held == [True, False]


def test_a_changed_sweep_is_refused_in_one_line(tmp_path: Path) -> None:
    with SweepFolder(tmp_path / "exp", sweep("a"), BASE).locked():
        pass
    before = (tmp_path / "exp" / "sweep.json").read_text()
    changed = replace(sweep("a"), cells=(replace(cells("a")[0], overrides={"optim.lr": 7.0}),))
    for other, base, message in (
        (changed, BASE, 'cell a,seed=1 had {"data.corpus": "a"} and has {"optim.lr": 7.0} now'),
        (replace(sweep("a"), overrides={"optim.lr": 1.0}), BASE, "overrides was {} and is"),
        (sweep("a"), "run: {name: y}\n", "base.yaml has changed since"),
    ):
        with pytest.raises(ConfigError) as caught:
            SweepFolder(tmp_path / "exp", other, base)
        assert message in str(caught.value)
    assert (tmp_path / "exp" / "sweep.json").read_text() == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "config.yaml").touch()
    with pytest.raises(ConfigError, match="holds something else than a sweep"):
        SweepFolder(tmp_path / "exp", sweep("a"), BASE)
    (tmp_path / "exp" / "sweep.json").write_text('{"format": 1, "cells": [3]')
    with pytest.raises(ConfigError, match="cannot be read"):
        SweepFolder(tmp_path / "exp", sweep("a"), BASE)


@pytest.mark.parametrize(
    ("words", "state", "reason"),
    [
        (["--version"], "failed", "it ended after step 0 of 12"),
        (["fitt"], "failed", "unknown command fitt, did you mean fit?"),
    ],
)
def test_a_process_and_its_last_line(words: list[str], state: str, reason: str, tmp_path: Path) -> None:
    run = run_of(tmp_path, cells("a")[0], *words)
    process = CellProcess(run, {})
    process.process.wait()
    assert process.poll() == Outcome(state=state, reason=reason)  # type: ignore[arg-type]
    again = CellProcess(run, {})
    again.process.kill()
    again.process.wait()  # what an earlier session said is not this one's last line
    assert again.poll() == Outcome(state="failed", reason="killed by SIGKILL; out of memory?")
    assert (run.path / "config.yaml").read_text() == BASE


def test_one_that_was_stopped_after_its_last_step_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for complete, outcome in ((True, Outcome(state="finished")), (False, Outcome(state="waiting", stopped=True))):
        monkeypatch.setattr(CellRun, "is_complete", lambda _, complete=complete: complete)
        process = CellProcess(run_of(tmp_path, cells("a")[0], "--version"), {})
        process.stop()
        assert process.wait() == outcome


def test_one_that_fails_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.lab.sweep.run._POLL_SECONDS", 0)
    folder, executor = SweepFolder(tmp_path / "exp", sweep("a", "bad", "c"), BASE), Fake(2)
    with folder.locked():
        view, out = quiet_view(folder)
        wanted = [record.cell for record in folder.current()]
        assert supervise(folder, CellList(wanted), executor, view, lambda cell: run_of(tmp_path, cell)) == 0
    assert [(record.state, record.reason) for record in folder.current()] == [
        ("finished", None), ("failed", "boom"), ("finished", None),
    ]  # fmt: skip
    assert executor.most == 2
    assert "failed    bad,seed=1  step 0, 0 s  (2 of 3 done): boom\n" in out.getvalue()


def test_progress_is_read_from_a_file_that_is_being_written(tmp_path: Path) -> None:
    assert read_progress(tmp_path) == Progress()
    write_metrics(tmp_path, "2,3.5,\n4,3.25,3.125\n6,3.0,\n8,2.")
    assert read_progress(tmp_path) == Progress(step=6, train_loss=3.0, val_loss=3.125)
    assert read_curve(tmp_path, "val/loss") == [(4, 3.125)]


def test_live_table_shows_what_is_at_work_and_counts_the_rest(tmp_path: Path) -> None:
    names = [f"g{n}" for n in range(20)]
    records = {cell.name: CellRecord(cell) for cell in cells(*names)}
    records["g7,seed=1"].state = "running"
    records["g9,seed=1"].state, records["g9,seed=1"].reason = "failed", "boom"
    write_metrics(tmp_path / "runs" / "g7,seed=1", "6,3.0,3.125\n")
    out = io.StringIO()
    console = Console(file=out, width=80, height=12, force_terminal=True, color_system=None)
    with LiveView(console, records, lambda: 20, lambda cell: run_of(tmp_path, cell)) as view:
        view.refresh()
    screen = out.getvalue()
    assert "g7,seed=1                running  6/12  3.0000  3.1250" in screen
    assert screen.index("g7,seed=1") < screen.index("g9,seed=1") < screen.index("g0,seed=1")
    assert "boom" in screen
    assert "and 15 more: 15 waiting" in screen
    assert "20 cells: 1 running, 1 failed, 18 waiting" in screen


@pytest.mark.parametrize(("module", "words", "extra"), [("ray", ["--engine=ray"], "ray"), ("optuna", [], "search")])
def test_what_is_not_installed_is_told(
    module: str, words: list[str], extra: str, *, tmp_path: Path, corpus_file: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import sys

    from lab.sweeps import write_sweep
    from minigpt.cli.main import main

    monkeypatch.setitem(sys.modules, module, None)
    what = {"search": {"space": {"model.n_head": {"choices": [1]}}}} if module == "optuna" else {"cells": [{}]}
    path = write_sweep(tmp_path, corpus_file, **what)
    assert main(["sweep", str(path), *words]) == 2
    assert f'pip install "minigpt[{extra}]"' in capsys.readouterr().err
    assert list(tmp_path.glob("runs/*/sweep.json")) == []


@pytest.mark.parametrize(
    ("reason", "again"), [("time limit at step 5 of 12", True), ("EarlyStopping (no better) at step 5 of 12", False)]
)
def test_cell_that_stopped_early_has_not_failed(
    reason: str, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its time limit it is gone on with; one that a callback stopped is as far as it was meant to come."""
    monkeypatch.setattr(CellRun, "stopped_early", lambda _: reason)
    process = CellProcess(run_of(tmp_path, cells("a")[0], "--version"), {})
    assert process.wait() == Outcome(state="stopped", reason=reason)
    assert CellRecord(cells("a")[0], "stopped", reason).out_of_time == again

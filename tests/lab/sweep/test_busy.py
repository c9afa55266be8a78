"""Cells in whose folders another process trains, or has trained a moment ago."""

from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from lab.sweeps import BASE, cells, job, run_of, sweep, wait_for
from minigpt.lab.sweep.cell import BUSY, CellProcess, CellRun, Outcome
from minigpt.lab.sweep.folder import SweepFolder
from minigpt.lab.sweep.local import LocalExecutor, run_local, run_one
from minigpt.lab.sweep.slots import Slots


def ended(executor: LocalExecutor) -> list[tuple[str, Outcome]]:
    found: list[tuple[str, Outcome]] = []
    wait_for(lambda: bool(found.extend(executor.ended()) or found))
    return found


def test_a_folder_in_which_another_process_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it with the sweep's loop; it is gone on with when it is free, and never called failed."""
    run = run_of(tmp_path, cells("a")[0], "--version")
    run.path.mkdir(parents=True)
    executor = LocalExecutor(Slots(threads=1, gpus=((),)))
    lock = FileLock(run.path / ".lock")
    with lock:
        executor.start(run)
        assert executor.ended() == []
        assert not executor.has_room()
        executor.stop(run.name)  # a Ctrl-C meanwhile
        assert executor.ended() == [(run.name, Outcome(state="waiting", stopped=True))]
        executor.start(run)
        assert not (run.path / "stdout.log").exists()
    assert ended(executor) == [(run.name, Outcome(state="failed", reason="it ended after step 0 of 12"))]  # it began

    monkeypatch.setattr("minigpt.lab.sweep.cell._PATIENCE", 0.0)
    with lock:
        executor.start(run)
        assert ended(executor) == [(run.name, BUSY)]
        process = CellProcess(replace(run, words=("fitt",)), {})  # as if it had lost the folder while it started
        assert process.wait() == BUSY
        killed = CellProcess(run, {})
        killed.process.kill()
        assert killed.wait().state == "failed"
    monkeypatch.setattr(CellRun, "is_complete", lambda _: True)
    executor.start(run)
    assert executor.ended() == [(run.name, Outcome(state="finished"))]


LOSER = """
import sys
from pathlib import Path
from minigpt.errors import ConfigError
from minigpt.runs.status import TAKEN
again = Path("again")
if again.exists():
    sys.exit(ConfigError("something else is wrong").exit_code)
again.touch()
print(f"minigpt: error: runs/x: {TAKEN}", file=sys.stderr)
sys.exit(ConfigError.exit_code)
"""


def test_one_that_loses_the_folder_to_a_process_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds the lock any more when the sweep looks: it begins again, and takes the next error for its own."""
    run = run_of(tmp_path, cells("a")[0], "fit")
    monkeypatch.setattr("minigpt.lab.sweep.cell._CHILD", ("-c", LOSER))
    lost = CellProcess(run, {})
    assert lost.wait() == BUSY
    (tmp_path / "again").unlink()
    asked = CellProcess(run, {})
    monkeypatch.setattr(asked.process, "send_signal", lambda _: None)
    asked.stop()
    assert asked.wait() == Outcome(state="waiting", stopped=True)
    (tmp_path / "again").unlink()
    executor = LocalExecutor(Slots(threads=1, gpus=((),)))
    executor.start(run)
    [(_, outcome)] = ended(executor)
    assert outcome.state == "failed"
    assert (tmp_path / "again").exists()


def test_a_busy_cell_is_left_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.lab.sweep.cell._PATIENCE", 0.0)
    monkeypatch.setattr("minigpt.lab.sweep.run._POLL_SECONDS", 0)
    todo = job(tmp_path, folder=SweepFolder(tmp_path / "exp", sweep("a"), BASE))
    folder = run_of(tmp_path, cells("a")[0]).path
    folder.mkdir(parents=True)
    for only in (None, 0):  # the whole sweep; a task of an array
        with FileLock(folder / ".lock"):
            assert (run_local(todo) if only is None else run_one(todo, only)) == 1
        [record] = todo.folder.current()
        assert (record.state, record.reason) == ("waiting", BUSY.reason)
        assert [cell.name for cell in todo.to_do()] == ["a,seed=1"]
    said = todo.console.file.getvalue()  # type: ignore[attr-defined]
    assert "(0 of 1 done): busy elsewhere: another process is training in this folder\n" in said
    assert "1 busy elsewhere: the same command checks them again\n" in said

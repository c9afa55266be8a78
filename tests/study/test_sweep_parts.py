"""The record, the processes, the places, the view and the search of a sweep, each alone and without a training."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from filelock import FileLock, Timeout
from rich.console import Console

from minigpt.errors import ConfigError
from minigpt.study.search_space import Choices, Numbers, SearchSpace
from minigpt.study.sweep_cell import BUSY, CellProcess, CellRun, Outcome
from minigpt.study.sweep_engines import ENGINES
from minigpt.study.sweep_file import Cell, EngineName, Sweep, make_cell
from minigpt.study.sweep_folder import CellRecord, SweepFolder
from minigpt.study.sweep_job import Job
from minigpt.study.sweep_local import LocalExecutor, run_local, run_one
from minigpt.study.sweep_progress import Progress, read_curve, read_progress
from minigpt.study.sweep_run import CellList, supervise
from minigpt.study.sweep_slots import Slots, share_out
from minigpt.study.sweep_slurm import ranges, write_script
from minigpt.study.sweep_view import LiveView, PlainView, clock

from .sweeps import wait_for

BASE = "run: {name: x}\n"


def cells(*groups: str) -> tuple[Cell, ...]:
    return tuple(make_cell(group, {"data.corpus": group}, 1, Path("exp.yaml")) for group in groups)


def sweep(*groups: str, search: SearchSpace | None = None) -> Sweep:
    return Sweep(
        path=Path("exp.yaml"), name="exp", base="base.yaml", base_path=Path("base.yaml"), seeds=(1,), overrides={},
        cells=cells(*groups), search=search,
    )  # fmt: skip


def run_of(folder: Path, cell: Cell, *words: str) -> CellRun:
    return CellRun(
        name=cell.name, workplace=str(folder), folder=f"runs/{cell.name}", words=words, max_steps=12, config_yaml=BASE
    )


def test_engines_are_the_ones_with_a_name() -> None:
    assert tuple(ENGINES) == get_args(EngineName)


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

    def look(path: Path) -> None:
        try:
            with FileLock(path / ".record.lock", timeout=0):
                held.append(False)
        except Timeout:
            held.append(True)

    monkeypatch.setattr("minigpt.study.sweep_folder.remove_leftovers", look)
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
    assert again.poll() == Outcome(state="failed", reason="killed by SIGKILL; was there too little memory?")
    assert (run.path / "config.yaml").read_text() == BASE


def test_one_that_was_stopped_after_its_last_step_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for complete, outcome in ((True, Outcome(state="finished")), (False, Outcome(state="waiting", stopped=True))):
        monkeypatch.setattr(CellRun, "is_complete", lambda _, complete=complete: complete)
        process = CellProcess(run_of(tmp_path, cells("a")[0], "--version"), {})
        process.stop()
        assert process.wait() == outcome


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

    monkeypatch.setattr("minigpt.study.sweep_cell._PATIENCE", 0.0)
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


def test_a_busy_cell_is_left_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.study.sweep_cell._PATIENCE", 0.0)
    monkeypatch.setattr("minigpt.study.sweep_run._POLL_SECONDS", 0)
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
    assert "(0 of 1 done): busy elsewhere: another process is training in its folder\n" in said
    assert "1 busy elsewhere: the same command looks again\n" in said


class Fake:
    """An executor whose cells end at once, as their names say."""

    def __init__(self, room: int) -> None:
        self.room, self.running, self.most, self.stopped = room, list[str](), 0, list[str]()

    def has_room(self) -> bool:
        return len(self.running) < self.room

    def start(self, run: CellRun) -> None:
        self.running.append(run.name)
        self.most = max(self.most, len(self.running))

    def ended(self) -> list[tuple[str, Outcome]]:
        ended, self.running = self.running, []
        return [(name, self.outcome(name)) for name in ended]

    def outcome(self, name: str) -> Outcome:
        if name in self.stopped:
            return Outcome(state="waiting", stopped=True)
        return Outcome(state="failed", reason="boom") if name.startswith("bad") else Outcome(state="finished")

    def stop(self, name: str) -> None:
        self.stopped.append(name)


def quiet_view(folder: SweepFolder) -> tuple[PlainView, io.StringIO]:
    out = io.StringIO()
    return PlainView(Console(file=out, width=200), folder.records, lambda: len(folder.records)), out


def test_one_that_fails_does_not_stop_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt.study.sweep_run._POLL_SECONDS", 0)
    folder, executor = SweepFolder(tmp_path / "exp", sweep("a", "bad", "c"), BASE), Fake(2)
    with folder.locked():
        view, out = quiet_view(folder)
        wanted = [record.cell for record in folder.current()]
        assert supervise(folder, CellList(wanted), executor, view, lambda cell: run_of(tmp_path, cell)) == 0
    assert [(record.state, record.reason) for record in folder.current()] == [
        ("finished", None), ("failed", "boom"), ("finished", None),
    ]  # fmt: skip
    assert executor.most == 2
    assert "failed    bad,seed=1  step 0, 0:00  (2 of 3 done): boom\n" in out.getvalue()


@pytest.mark.parametrize(
    ("jobs", "n_cells", "gpus", "per_cell", "expected"),
    [
        (None, 50, [], 1, (8, 1, None)),
        (None, 3, [], 1, (3, 2, None)),
        (2, 50, [], 1, (2, 4, None)),
        (None, 50, ["0", "1", "2", "3"], 1, (4, 2, "3")),
        (None, 50, ["0", "1", "2", "3"], 2, (2, 4, "2,3")),
        (4, 50, ["0", "1"], 1, (4, 2, "1")),
        (None, 50, ["0"], 2, (1, 8, "0")),
    ],
)
def test_cells_share_the_machine(
    jobs: int | None,
    n_cells: int,
    gpus: list[str],
    per_cell: int,
    expected: tuple[int, int, str | None],
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`expected`: places, threads of each, GPUs of the last."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("minigpt.study.sweep_slots.usable_cores", lambda: 8)
    slots = share_out(jobs, n_cells=n_cells, gpus=gpus, gpus_per_cell=per_cell)
    last = slots.environment(len(slots) - 1)
    assert (len(slots), slots.threads, last.get("CUDA_VISIBLE_DEVICES")) == expected
    assert last["OMP_NUM_THREADS"] == str(slots.threads)
    assert share_out(None, n_cells=9, gpus=[], gpus_per_cell=1, threads=4).environment(1) == {"OMP_NUM_THREADS": "4"}


def job(root: Path, **changes: Any) -> Job:
    given: dict[str, Any] = {
        "folder": SweepFolder(root / "exp", sweep("a", "b", "c"), BASE), "make_run": lambda cell: run_of(root, cell),
        "console": Console(file=io.StringIO(), width=200), "command": ["sweep", "exp.yaml"], "jobs": None,
        "gpus_per_cell": None, "cpus_per_cell": None, "accelerator": "cpu", "devices": 1, "retry": False,
        "address": None,
    }  # fmt: skip
    return Job(**{**given, **changes})


def test_a_task_has_all_of_its_machine_and_a_mac_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("minigpt.study.sweep_slots.usable_cores", lambda: 8)
    monkeypatch.setattr("minigpt.study.sweep_job.visible_gpus", lambda: ["0", "1"])
    assert job(tmp_path).whole() == Slots(threads=8, gpus=((),))
    assert job(tmp_path, accelerator="auto", cpus_per_cell=3).whole() == Slots(threads=3, gpus=(("0", "1"),))
    assert job(tmp_path, accelerator="auto").slots() == Slots(threads=4, gpus=(("0",), ("1",)))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert len(job(tmp_path).slots()) == 2
    assert job(tmp_path).whole().threads == 4
    assert job(tmp_path, cpus_per_cell=3).whole().threads == 3
    monkeypatch.delenv("OMP_NUM_THREADS")

    monkeypatch.setattr("minigpt.study.sweep_job.visible_gpus", list)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    for accelerator in ("auto", "gpu", "mps"):
        assert job(tmp_path, accelerator=accelerator).slots() == Slots(threads=8, gpus=((),))
    assert len(job(tmp_path, accelerator="mps", jobs=2).slots()) == 2  # whoever says so
    assert len(job(tmp_path).slots()) == 3


@pytest.mark.parametrize(
    ("changes", "gpus", "cpus"),
    [
        ({"accelerator": "gpu", "devices": 2}, 2, 4),
        ({"accelerator": "auto"}, 0, 4),
        ({"accelerator": "auto", "gpus_per_cell": 1}, 1, 4),
        ({"accelerator": "cuda", "gpus_per_cell": 0, "cpus_per_cell": 6}, 0, 6),
        ({"accelerator": "cpu"}, 0, 4),
    ],
)
def test_a_slurm_script_asks_for_what_the_config_wants(
    changes: dict[str, Any], gpus: int, cpus: int, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever GPUs and cores the machine has on which it is written."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("minigpt.study.sweep_slots.usable_cores", lambda: 64)
    monkeypatch.setattr("minigpt.study.sweep_job.visible_gpus", lambda: [] if gpus else ["0"])
    task = job(tmp_path, **changes)
    assert write_script(task) == 0
    script = (tmp_path / "exp" / "slurm.sh").read_text()
    assert re.findall(r"gres=gpu:(\d+)", script) == ([str(gpus)] if gpus else [])
    assert f"#SBATCH --cpus-per-task={cpus}\n" in script
    assert f'--cpus_per_cell "${{SLURM_CPUS_PER_TASK:-{cpus}}}" --cell "$SLURM_ARRAY_TASK_ID"\n' in script
    told = "trainer.accelerator=auto asks for no GPU: --gpus_per_cell 1 does\n"
    assert (told in task.console.file.getvalue()) == (changes == {"accelerator": "auto"})  # type: ignore[attr-defined]


def test_ranges() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


def write_metrics(run: Path, rows: str) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.csv").write_text(f"step,train/loss,val/loss\n{rows}")


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
    assert [clock(seconds) for seconds in (41, 725, 3750)] == ["0:41", "12:05", "1:02:30"]


SPACE = SearchSpace(
    space={"optim.lr": Numbers(low=0.1, high=10.0, log=True), "model.n_head": Choices(choices=(1, 2))}, trials=8
)


class Objective(Fake):
    """Cells whose loss is their learning rate, told in two validations."""

    def __init__(self, folder: SweepFolder) -> None:
        super().__init__(1)
        self.folder, self.looked = folder, 0

    def start(self, run: CellRun) -> None:
        super().start(run)
        loss = self.folder.records[run.name].cell.overrides["optim.lr"]
        write_metrics(self.folder.path / run.name, f"5,,{loss + 1}\n10,,{loss}\n")

    def ended(self) -> list[tuple[str, Outcome]]:
        self.looked += 1  # each is looked at once while it runs
        return super().ended() if self.looked % 2 == 0 else []


def test_a_search_finds_prunes_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    from minigpt.study.search import Search, best_trial

    monkeypatch.setattr("minigpt.study.sweep_run._POLL_SECONDS", 0)
    folder = SweepFolder(tmp_path / "exp", sweep(search=SPACE), BASE)

    def make_run(cell: Cell) -> CellRun:
        return replace(run_of(tmp_path, cell), folder=f"exp/{cell.name}")

    with folder.locked():
        first = Search(SPACE, folder)
        asked = first.next()  # and then the power goes
        assert asked is not None
        view, _ = quiet_view(folder)
        assert supervise(folder, Search(SPACE, folder), Objective(folder), view, make_run) == 0
    records = folder.current()
    assert [record.cell.name for record in records] == [f"trial={n:03},seed=1" for n in range(8)]
    assert records[0].cell == asked
    rates = [record.cell.overrides["optim.lr"] for record in records]
    assert len(set(rates)) == 8  # no trial was drawn a second time
    found = {record.state for record in records}
    assert found == {"finished", "pruned"}, "the seed is to be chosen so that one of the last trials is pruned"
    pruned = next(record for record in records if record.state == "pruned")
    assert "promises too little (median)" in str(pruned.reason)
    done = [rate for rate, record in zip(rates, records, strict=True) if record.state == "finished"]
    assert best_trial(folder.path) == (f"trial={rates.index(min(done)):03}", min(done))
    again = SweepFolder(tmp_path / "exp", sweep(search=replace(SPACE, trials=9)), BASE)  # more of them are no change
    with again.locked():
        assert Search(SPACE, again).next() is None
        assert Search(replace(SPACE, trials=9), again).next() is not None
    with pytest.raises(ConfigError, match="search was"):
        SweepFolder(tmp_path / "exp", sweep(search=replace(SPACE, seed=5)), BASE)


def test_settings_that_do_not_go_together_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a search was killed with such a trial at work; and if there is nothing else, one line says so."""
    pytest.importorskip("optuna")
    from minigpt.study.search import Search, best_trial

    monkeypatch.setattr("minigpt.study.sweep_run._POLL_SECONDS", 0)
    space = replace(SPACE, pruner="none")
    folder = SweepFolder(tmp_path / "exp", sweep(search=space), BASE)
    only = 2

    def make_run(cell: Cell) -> CellRun:
        if cell.overrides["model.n_head"] != only:
            raise ConfigError(f"{only} heads it must be")
        return replace(run_of(tmp_path, cell), folder=f"exp/{cell.name}")

    with folder.locked():
        asked = Search(space, folder).next()
        assert asked is not None
        only = 3 - asked.overrides["model.n_head"]  # the first is one of those that cannot be
        view, out = quiet_view(folder)
        assert supervise(folder, Search(space, folder), Objective(folder), view, make_run) == 0
    records = folder.current()
    assert len(records) == 8
    for record in records:
        legal = record.cell.overrides["model.n_head"] == only
        assert (record.state, record.reason) == (
            ("finished", None) if legal else ("failed", f"{only} heads it must be")
        )
    assert {record.state for record in records} == {"finished", "failed"}
    assert f"failed    {asked.name}  (1 of 1 done): {only} heads it must be\n" in out.getvalue()
    assert best_trial(folder.path) is not None
    screen = Console(file=io.StringIO(), width=120, height=20, force_terminal=True, color_system=None)
    with LiveView(screen, folder.records, lambda: 8, make_run) as live:
        live.refresh()
    assert "heads it must be" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_the_last_validation_prunes_nothing(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    from minigpt.study.search import Search

    class Always(optuna.pruners.BasePruner):  # type: ignore[misc, name-defined]
        def prune(self, study: object, trial: object) -> bool:
            return True

    folder = SweepFolder(tmp_path / "exp", sweep(search=SPACE), BASE)
    folder.prepare()
    search = Search(SPACE, folder)
    search._study.pruner = Always()
    cell = search.next()
    assert cell is not None
    run = replace(run_of(tmp_path, cell), folder=f"exp/{cell.name}", max_steps=10)
    write_metrics(run.path, "10,,3.0\n")
    assert search.hopeless(run) is None
    run = replace(run, max_steps=11)
    write_metrics(run.path, "10,,3.0\n11,,2.5\n")
    assert search.hopeless(run) is None
    assert search.hopeless(replace(run, max_steps=12)) is None  # it was told already
    write_metrics(run.path, "10,,3.0\n11,,2.5\n12,,2.0\n")
    assert str(search.hopeless(replace(run, max_steps=13))).startswith("val/loss 2.0000 at step 12 promises too little")


@pytest.mark.parametrize(("module", "words", "extra"), [("ray", ["--engine=ray"], "ray"), ("optuna", [], "search")])
def test_what_is_not_installed_is_told(
    module: str, words: list[str], extra: str, *, tmp_path: Path, corpus_file: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import sys

    from minigpt.cli.main import main

    from .sweeps import write_sweep

    monkeypatch.setitem(sys.modules, module, None)
    what = {"search": {"space": {"model.n_head": {"choices": [1]}}}} if module == "optuna" else {"cells": [{}]}
    path = write_sweep(tmp_path, corpus_file, **what)
    assert main(["sweep", str(path), *words]) == 2
    assert f'pip install "minigpt[{extra}]"' in capsys.readouterr().err
    assert list(tmp_path.glob("runs/*/sweep.json")) == []

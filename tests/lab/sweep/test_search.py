"""A search: what it draws, what it learns, when it stops a trial."""

import io
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lab.sweeps import BASE, Fake, job, quiet_view, run_of, sweep, write_metrics
from minigpt.errors import ConfigError
from minigpt.lab.sweep.cell import CellRun, Outcome
from minigpt.lab.sweep.file import Cell
from minigpt.lab.sweep.folder import SweepFolder
from minigpt.lab.sweep.run import supervise
from minigpt.lab.sweep.search_space import Choices, Numbers, SearchSpace
from minigpt.lab.sweep.view import LiveView

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
    from minigpt.lab.sweep.search import Search, best_trial

    monkeypatch.setattr("minigpt.lab.sweep.run._POLL_SECONDS", 0)
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
    assert "is not promising (median)" in str(pruned.reason)
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
    from minigpt.lab.sweep.search import Search, best_trial

    monkeypatch.setattr("minigpt.lab.sweep.run._POLL_SECONDS", 0)
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
        whole = job(tmp_path, folder=folder, make_run=make_run)
        assert whole.run(Objective(folder)) == 0  # trials that go wrong are part of a search
    records = folder.current()
    assert len(records) == 8
    for record in records:
        legal = record.cell.overrides["model.n_head"] == only
        assert (record.state, record.reason) == (
            ("finished", None) if legal else ("failed", f"{only} heads it must be")
        )
    assert {record.state for record in records} == {"finished", "failed"}
    assert f"failed    {asked.name}  (1 of 8 done): {only} heads it must be\n" in whole.console.file.getvalue()  # type: ignore[attr-defined]
    assert best_trial(folder.path) is not None
    screen = Console(file=io.StringIO(), width=120, height=20, force_terminal=True, color_system=None)
    with LiveView(screen, folder.records, lambda: 8, make_run) as live:
        live.refresh()
    assert "heads it must be" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_the_last_validation_prunes_nothing(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    from minigpt.lab.sweep.search import Search

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
    assert search.why_prune(run) is None
    run = replace(run, max_steps=11)
    write_metrics(run.path, "10,,3.0\n11,,2.5\n")
    assert search.why_prune(run) is None
    assert search.why_prune(replace(run, max_steps=12)) is None  # it was told already
    write_metrics(run.path, "10,,3.0\n11,,2.5\n12,,2.0\n")
    assert str(search.why_prune(replace(run, max_steps=13))).startswith("val/loss 2.0000 at step 12 is not promising")


def test_a_search_waits_for_no_lock_of_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the link that Optuna's own lock leaves, which for a relative folder points nowhere, nor for ours."""
    pytest.importorskip("optuna")
    from minigpt.lab.sweep.search import JOURNAL, JOURNAL_LOCK, Search

    monkeypatch.chdir(tmp_path)
    folder = SweepFolder(Path("runs/exp"), sweep(search=SPACE), BASE)
    folder.prepare()
    (folder.path / f"{JOURNAL}.lock").symlink_to(f"runs/exp/{JOURNAL}")
    take = f"filelock.FileLock({str(folder.path / JOURNAL_LOCK)!r}).acquire()"
    held = f"import filelock, os; {take}; os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", held], check=False).returncode == -signal.SIGKILL
    search = Search(SPACE, folder)
    assert search.next() is not None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # the journal stays where it is
    search._study.ask()
    assert not any(Path().iterdir())


def test_a_cut_journal_is_gone_on_with_and_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from minigpt.lab.sweep.search import JOURNAL, Search

    folder = SweepFolder(tmp_path / "exp", sweep(search=SPACE), BASE)
    with folder.locked():
        assert Search(SPACE, folder).next() is not None
        journal = folder.path / JOURNAL
        whole = journal.read_bytes()
        journal.write_bytes(whole[:-9])
        assert Search(SPACE, folder).next() is not None  # whose line does not join what is left of the last one
        assert Search(SPACE, folder).next() is not None
        journal.write_bytes(b"{" + whole)
        with pytest.raises(ConfigError, match=r"search.journal is damaged, and the search cannot resume from it"):
            Search(SPACE, folder)


def test_a_trial_that_a_callback_stopped_counts_and_one_out_of_time_goes_on(tmp_path: Path) -> None:
    """The first with what it had come to; the second under the same name and settings in the next session."""
    pytest.importorskip("optuna")
    from minigpt.lab.sweep.search import Search, best_trial

    folder = SweepFolder(tmp_path / "exp", sweep(search=SPACE), BASE)
    with folder.locked():
        search = Search(SPACE, folder)
        reasons = ["EarlyStopping (no better) at step 5 of 12", "time limit at step 5 of 12", "EarlyStopping at step 2"]
        found = [search.next() for _ in reasons]
        cells = [cell for cell in found if cell is not None]
        for number, (cell, reason) in enumerate(zip(cells, reasons, strict=True)):
            write_metrics(folder.path / cell.name, f"5,,{3.0 - number}\n" if number < 2 else "2,1.0,\n")
            folder.set_state(cell.name, "stopped", reason)
            search.end(cell, Outcome(state="stopped", reason=reason))
        assert best_trial(folder.path) == ("trial=000", 3.0)  # the second is better, but not at its end
        assert [trial.state.name for trial in search._study.trials] == ["COMPLETE", "RUNNING", "FAIL"]
        again = Search(SPACE, folder)
        assert again.next() == cells[1]

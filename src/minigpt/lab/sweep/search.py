"""Search: each trial is a cell whose settings Optuna chooses and whose metric it judges.

Optuna's journal lies in the sweep's folder. A search that was killed resumes from it: trials that were running are
resumed, with the same numbers and the same settings.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from minigpt.errors import ConfigError
from minigpt.lab.sweep.cell import CellRun, Outcome
from minigpt.lab.sweep.file import Cell, make_cell
from minigpt.lab.sweep.folder import SweepFolder
from minigpt.lab.sweep.progress import read_curve
from minigpt.lab.sweep.search_space import Choices, Numbers, PrunerName, SearchSpace
from minigpt.system.extras import import_extra

JOURNAL = "search.journal"
JOURNAL_LOCK = ".search.lock"
_NAME = "search"


def check_optuna() -> None:
    """Raise ConfigError if Optuna is not installed."""
    optuna = import_extra("optuna", "search", "minigpt[search]")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class Search:
    """A source of cells, one per trial."""

    def __init__(self, space: SearchSpace, folder: SweepFolder) -> None:
        """Resume the journal in `folder`, or start one."""
        import optuna

        self._space = space
        self._folder = folder
        journal = folder.path / JOURNAL
        _drop_cut_line(journal)
        try:
            self._study = optuna.create_study(
                study_name=_NAME,
                storage=_storage(folder.path),
                direction=space.direction,
                pruner=_PRUNERS[space.pruner](optuna.pruners),
                load_if_exists=True,
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # the journal has damaged lines
            raise ConfigError(f"{journal} is damaged, and the search cannot resume from it: {error}") from error
        self._trials: dict[str, Any] = {}
        """Running trials by the names of their cells."""
        self._reported: dict[str, int] = {}
        self._left = [trial for trial in self._study.get_trials(deepcopy=False) if not trial.state.is_finished()]

    def next(self) -> Cell | None:
        """A trial that was running when the search was stopped; then new ones, up to the requested number."""
        import optuna

        if self._left:
            frozen = self._left.pop(0)
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
            reported = max(frozen.intermediate_values, default=0)
        else:
            number = len(self._study.get_trials(deepcopy=False))
            if number >= self._space.trials:
                return None
            self._use_sampler(number)
            trial, reported = self._study.ask(), 0
        self._use_sampler(trial.number)  # after a kill between two settings, those already drawn are kept
        overrides = {key: _SUGGESTIONS[type(what)](trial, key, what) for key, what in self._space.space.items()}
        name = f"trial={trial.number:03}"
        cell = make_cell(name, overrides, self._folder.sweep.seeds[0], self._folder.path)
        self._folder.add(cell)
        self._trials[cell.name], self._reported[cell.name] = trial, reported
        return cell

    def why_prune(self, run: CellRun) -> str | None:
        """Report new values to Optuna and ask whether to prune; not at the last step, where that would save nothing."""
        trial, metric = self._trials[run.name], self._space.metric
        for step, value in read_curve(run.path, metric):
            if step <= self._reported[run.name]:
                continue
            self._reported[run.name] = step
            trial.report(value, step)
            if step < run.max_steps and trial.should_prune():
                return f"{metric} {value:.4f} at step {step} is not promising ({self._space.pruner})"
        return None

    def end(self, cell: Cell, outcome: Outcome) -> None:
        """Report the result to Optuna, unless the cell will be resumed: stopped with the search, or at its time limit.

        A cell that a callback stopped early counts with its last value.
        """
        from optuna.trial import TrialState

        trial = self._trials.pop(cell.name)
        if outcome.state == "waiting" or self._folder.records[cell.name].out_of_time:
            return
        values = [value for _, value in read_curve(self._folder.path / cell.name, self._space.metric)]
        if outcome.state in {"finished", "stopped"} and values:
            self._study.tell(trial, values[-1])
        else:
            self._study.tell(trial, state=TrialState.PRUNED if outcome.state == "pruned" else TrialState.FAIL)

    def _use_sampler(self, number: int) -> None:
        """Seed the sampler by trial: a resumed search would otherwise draw its first trials again."""
        import optuna

        self._study.sampler = optuna.samplers.TPESampler(seed=self._space.seed + number, constant_liar=True)


def best_trial(folder: Path) -> tuple[str, float] | None:
    """The group of the best trial and its value; None if no trial has finished."""
    import optuna

    study = optuna.load_study(study_name=_NAME, storage=_storage(folder))
    try:
        best = study.best_trial
    except ValueError:
        return None
    assert best.value is not None
    return f"trial={best.number:03}", best.value


def _drop_cut_line(journal: Path) -> None:
    """Remove an incomplete last line, which a kill or a full disk left: the next line would be appended to it."""
    if journal.is_file() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def _storage(folder: Path) -> Any:
    """The journal, with a lock that the system releases when the process ends.

    Optuna's own lock is a link, which a killed process leaves behind and which fails for a relative path.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    folder = folder.absolute()
    lock: Any = FileLock(folder / JOURNAL_LOCK)
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL), lock_obj=lock))


def _numbers(trial: Any, key: str, what: Numbers) -> float:
    if what.whole:
        return trial.suggest_int(key, what.low, what.high, step=what.step, log=what.log)
    return trial.suggest_float(key, what.low, what.high, log=what.log)


def _choices(trial: Any, key: str, what: Choices) -> Any:
    return trial.suggest_categorical(key, what.choices)


_SUGGESTIONS: dict[type, Callable[[Any, str, Any], Any]] = {Numbers: _numbers, Choices: _choices}
_PRUNERS: dict[PrunerName, Callable[[Any], Any]] = {
    "median": lambda pruners: pruners.MedianPruner(),
    "hyperband": lambda pruners: pruners.HyperbandPruner(),
    "none": lambda pruners: pruners.NopPruner(),
}

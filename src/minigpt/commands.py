"""The commands as Python functions, for scripts and notebooks: fit, plan, sweep and compare.

Each goes the way of its command on the command line: the same configs, checks, defaults, folders and files.
"""

import contextlib
import random
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from minigpt.api import LoadedGPT, load
from minigpt.errors import CheckpointError, ConfigError, did_you_mean
from minigpt.lab.compare.compare import compare as compare_runs
from minigpt.lab.compare.result import By, Comparison
from minigpt.lab.sweep.file import EngineName, words_of
from minigpt.runs.checkpoint import Prefer
from minigpt.runs.records import RunRecord, read_run
from minigpt.runs.status import RunState
from minigpt.system.output import console, note

if TYPE_CHECKING:
    from minigpt.lab.plan.plan import Plan
    from minigpt.lab.plan.warnings import PlanWarning

Config = str | Path | Mapping[str, Any]
"""A YAML file, the name of a shipped config, or settings: by dotted keys, or by group."""


class Curve(NamedTuple):
    """One logged quantity."""

    steps: np.ndarray
    """(N,) int64: optimizer steps done."""
    values: np.ndarray
    """(N,) float64."""


@dataclass(frozen=True)
class Run:
    """A run by its folder: what it recorded so far, and its model. `Run("runs/base")` opens one that is there."""

    folder: Path

    def __post_init__(self) -> None:
        """Raise CheckpointError unless `folder` is a run's."""
        object.__setattr__(self, "folder", Path(self.folder))
        _ = self.record

    def __repr__(self) -> str:
        """One line: where it is, how far it came, and its best loss."""
        record = self.record
        line = f"run {self.folder}: {record.state}, step {record.step:,} of {record.max_steps:,}"
        losses = _curve(record.metrics, "val/loss").values
        return f"{line}, best validation loss {np.nanmin(losses):.4f}" if np.isfinite(losses).any() else line

    @property
    def record(self) -> RunRecord:
        """Config, sessions and metrics, read anew each time."""
        return read_run(self.folder)

    @property
    def state(self) -> RunState:
        """Whether it is running, finished, stopped, diverged, failed or damaged."""
        return self.record.state

    @property
    def curves(self) -> dict[str, Curve]:
        """Every logged quantity by its column in metrics.csv: `run.curves["val/loss"].values`."""
        metrics = self.record.metrics
        names = dict.fromkeys(name for row in metrics.values() for name in row)
        return {name: _curve(metrics, name) for name in names}

    @property
    def best_step(self) -> int:
        """The step of the lowest validation loss. Raises CheckpointError for a run that was never validated."""
        curve = self._validation
        return int(curve.steps[np.nanargmin(curve.values)])

    @property
    def best_loss(self) -> float:
        """The lowest validation loss, nats per token. Raises CheckpointError for a run that was never validated."""
        return float(np.nanmin(self._validation.values))

    @property
    def _validation(self) -> Curve:
        curve = _curve(self.record.metrics, "val/loss")
        if not np.isfinite(curve.values).any():
            raise CheckpointError(f"{self.folder} has no validation loss yet")
        return curve

    def load(self, prefer: Prefer = "best", device: str = "cpu") -> LoadedGPT:
        """Load its best checkpoint, or with `prefer="last"` its newest one: see `minigpt.load`."""
        return load(self.folder, device, prefer)


def fit(
    config: Config = "base",
    overrides: Mapping[str, Any] | None = None,
    *,
    ckpt_path: str | Path | None = None,
    resume: str | Path | Run | None = None,
) -> Run:
    """Train the experiment of `config` with `overrides`, and return its run.

        run = minigpt.fit("base", {"model.position": "rotary", "trainer.max_steps": 50})

    `ckpt_path` is "last", a run or a checkpoint to begin from. `resume` goes on with that run by its own config, and
    `config` is not read. A run that Ctrl-C stops is saved first, and KeyboardInterrupt raised. The caller's random
    states (Python's, NumPy's, torch's on the CPU) are left as they were. Raises ConfigError, DataError, CheckpointError
    or TrainingError, as `minigpt fit` would say it.
    """
    from minigpt.cli.experiment import build_experiment, read_experiment
    from minigpt.cli.resume import resumed
    from minigpt.training import fit as training

    start_words = _config_words(config) if resume is None else [f"--resume={_path(resume)}"]
    words = [*start_words, *_words(overrides)]
    if ckpt_path is not None:
        words.append(f"--ckpt_path={ckpt_path}")
    given = ["minigpt", "fit", *words]
    words, folder = resumed(words)
    read_experiment(words)
    experiment, start = build_experiment(words)
    if threading.current_thread() is not threading.main_thread():
        note("training outside the main thread, where Ctrl-C and SIGTERM cannot be waited for: set trainer.max_time")
    taken: list[Path] = []
    with _random_states_kept():
        code = training.fit(experiment, ckpt_path=start, resume=folder, command=given, on_folder=taken.append)
    _raise_for_signal(code)
    if not taken:
        raise ConfigError(f"{ckpt_path} has done its steps: raise trainer.max_steps to continue from it")
    return Run(taken[0])


@dataclass(frozen=True)
class RunPlan:
    """What a run will need, before it starts."""

    plan: "Plan"
    """Its numbers: memory, duration, data, cost, forecast."""
    warnings: "Sequence[PlanWarning]"
    """What speaks against starting it so."""

    def __repr__(self) -> str:
        """The text that `minigpt plan` prints."""
        from minigpt.cli.plan import show_plan

        screen = console()
        with screen.capture() as text:
            show_plan(self.plan, self.warnings, screen)
        return text.get().rstrip()


def plan(config: Config = "base", overrides: Mapping[str, Any] | None = None, **options: Any) -> RunPlan:
    """Estimate memory, time, cost and loss of a run without starting it.

    `options` are those of `minigpt plan`: device, devices, price, utilisation, memory_gb, law. Raises ConfigError or
    DataError.
    """
    from minigpt.cli.plan import Options, estimate

    words = [*_config_words(config), *_words(overrides)]
    try:
        chosen = Options(config="", **options)
    except TypeError:
        names = [each.name for each in fields(Options) if each.name not in {"config", "json"}]
        unknown = next(iter(options.keys() - set(names)))
        raise ConfigError(f"plan has no option {unknown}{did_you_mean(unknown, names)}") from None
    return RunPlan(*estimate(chosen, words))


@dataclass(frozen=True)
class SweepResult:
    """A sweep by its folder."""

    folder: Path

    @property
    def runs(self) -> list[Run]:
        """The runs that have begun, sorted by name."""
        from minigpt.runs.ownership import is_run

        return [Run(folder) for folder in sorted(self.folder.iterdir()) if folder.is_dir() and is_run(folder)]

    def compare(self, by: By | None = None, baseline: str | None = None, metric: str | None = None) -> Comparison:
        """Compare its runs: see `minigpt.compare`."""
        return compare_runs([self.folder], by, baseline, metric)


def sweep(
    file: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    jobs: int | None = None,
    retry: bool = False,
    engine: EngineName = "local",
) -> SweepResult:
    """Train the cells of a sweep file, or of a shipped one by its name, and return its folder with the runs.

    `overrides` hold for all cells. Cells are processes of their own, `jobs` at a time; what is done already is not done
    again. Cells that diverged or failed are left among the runs. Raises ConfigError or DataError, and KeyboardInterrupt
    after a Ctrl-C that stopped the cells.
    """
    from minigpt.cli.sweep import Options, make_job, run_job

    options = Options(
        sweep=str(file), name=name, set=tuple(_words(overrides, prefix="")), jobs=jobs, retry=retry, engine=engine
    )
    job = make_job(options)
    _raise_for_signal(run_job(job, options))
    return SweepResult(job.folder.path)


def compare(
    runs: str | Path | Run | SweepResult | Sequence[str | Path | Run | SweepResult],
    by: By | None = None,
    baseline: str | None = None,
    metric: str | None = None,
) -> Comparison:
    """Compare runs, sweeps or folders of runs, and say which differences are real.

    `by` is the value that is compared: final, best, tokens, flops or time (at an equal cost). `baseline` is the group
    or run that the others are compared with. `metric` is an evaluation, as eval/Rhymes/share, that is compared instead
    of the loss. Raises CheckpointError for what is no run or was never validated, and ConfigError for a baseline or a
    metric that is not there.
    """
    given = [runs] if isinstance(runs, str | Path | Run | SweepResult) else list(runs)
    return compare_runs([_path(each) for each in given], by, baseline, metric)


def _curve(metrics: Mapping[int, Mapping[str, float]], name: str) -> Curve:
    points = [(step, row[name]) for step, row in sorted(metrics.items()) if name in row]
    return Curve(np.array([step for step, _ in points], dtype=np.int64), np.array([value for _, value in points]))


def _path(run: str | Path | Run | SweepResult) -> Path:
    return run.folder if isinstance(run, Run | SweepResult) else Path(run)


def _config_words(config: Config) -> list[str]:
    return _words(config) if isinstance(config, Mapping) else [f"--config={config}"]


def _words(settings: Mapping[str, Any] | None, prefix: str = "--") -> list[str]:
    """Settings as options: {"model": {"n_head": 2}} and {"model.n_head": 2} -> ["--model.n_head=2"]."""
    flat: dict[str, Any] = {}
    for key, value in (settings or {}).items():
        if not isinstance(key, str):
            raise ConfigError(f"the setting {key!r} must be a name, as 'model.n_head'")
        if isinstance(value, Mapping) and "." not in key:
            flat |= {f"{key}.{name}": each for name, each in value.items()}
        else:
            flat[key] = value
    words: list[str] = []
    for key, value in flat.items():
        try:
            words += words_of({key: str(value) if isinstance(value, Path) else value})
        except TypeError:
            raise ConfigError(f"{key}={value!r} must be a plain value, or a class by its dotted name") from None
    return [prefix + word.removeprefix("--") for word in words]


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restore the caller's random states: training seeds the global generators."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(cast(Any, states[1]))
        torch.set_rng_state(states[2])


def _raise_for_signal(code: int) -> None:
    if code > 128:
        number = signal.Signals(code - 128)
        raise KeyboardInterrupt(f"stopped by {number.name}; what was done is saved")

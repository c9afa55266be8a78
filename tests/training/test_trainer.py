"""What Lightning's Trainer does unasked, and what a run does about it.

| unasked | decided |
|---|---|
| arguments from PL_TRAINER_* | no effect, and said |
| PL_GLOBAL_SEED, PL_SEED_WORKERS | no effect, and left as they were |
| ranks from RANK, LOCAL_RANK, SLURM_PROCID, ... | only where devices x nodes is more than one: `test_world.py` |
| `hpc_ckpt_N.ckpt` in the working folder | never read, never written |
| the file of an OnExceptionCheckpoint | written where the config asks for it, never read |
| SLURM's requeue signal | saved as any other stop, then `scontrol requeue` |
| SIGTERM and SIGINT amid an accumulation | heard at the end of a step: `test_kills.py` |
| handlers of signals outside the main thread | none |
| callbacks from entry points of other packages | left out |
| ModelCheckpoint, ModelSummary, progress bar | left out; a summary or a bar of the config's is taken |
| a first validation of two batches | none: `test_fit.py` |
| `lightning_logs/` and other files in the working folder | in the run's folder, or nowhere |
| warnings and information for beginners | the known ones are silent: `test_quiet.py` |
"""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import OnExceptionCheckpoint, RichProgressBar
from lightning.pytorch.profilers import AdvancedProfiler
from lightning.pytorch.trainer.connectors import callback_connector

from minigpt.runs.checkpoint import last_checkpoint
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.fit import fit
from minigpt.training.folders import take_folder
from minigpt.training.trainer import build_trainer
from minigpt.training.world import find_world

from .tiny import assert_same_state, checkpoint, tiny_experiment

JOB = {"SLURM_JOB_ID": "71", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
ARRAY = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "4"}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """A run that nothing disturbed."""
    root = tmp_path_factory.mktemp("straight")
    assert fit(tiny_experiment(root, corpus_file)) == 0
    return root / "tiny"


@pytest.fixture
def train(tmp_path: Path, corpus_file: Path) -> Callable[..., int]:
    """Train in `tmp_path` and give the exit code."""
    return lambda ckpt_path=None, **changes: fit(tiny_experiment(tmp_path, corpus_file, **changes), ckpt_path=ckpt_path)


def test_variables_pass_no_arguments(
    straight: Path,
    tmp_path: Path,
    train: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {
        "LIMIT_TRAIN_BATCHES": "2", "OVERFIT_BATCHES": "1", "FAST_DEV_RUN": "True", "MAX_TIME": "00:00:00:01",
        "GRADIENT_CLIP_VAL": "0.01", "ACCUMULATE_GRAD_BATCHES": "3", "DEFAULT_ROOT_DIR": str(tmp_path / "elsewhere"),
        "MIN_STEPS": "50", "DETECT_ANOMALY": "True", "BAREBONES": "True", "NONSENSE": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"PL_TRAINER_{name}", value)
    monkeypatch.setenv("PL_GLOBAL_SEED", "99")
    before = dict(os.environ)
    assert train() == 0
    assert dict(os.environ) == before
    assert_same_state(checkpoint(straight, 12), checkpoint(tmp_path / "tiny", 12))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]
    said = capsys.readouterr().out
    assert "PL_TRAINER_LIMIT_TRAIN_BATCHES has no effect: settings come from the config" in said
    assert "NONSENSE" not in said


@pytest.mark.parametrize("again", [False, True], ids=["new", "killed before its first checkpoint"])
def test_new_run_begins_at_its_beginning(
    straight: Path, tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Whatever checkpoints of strangers lie about."""
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    there = (straight / "checkpoints" / "step=00000008.ckpt").read_bytes()
    if again:
        take_folder(tmp_path, "tiny")
        (tmp_path / "tiny" / "config.yaml").write_text("run: {name: tiny}\n")
    for folder in (tmp_path, tmp_path / "tiny") if again else (tmp_path,):
        (folder / "hpc_ckpt_3.ckpt").write_bytes(there)
    (tmp_path / "saved.ckpt").write_bytes(there)
    callback = OnExceptionCheckpoint(tmp_path, "saved")
    experiment = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[callback])
    assert fit(experiment, ckpt_path="last" if again else None) == 0
    assert next(iter(read_metrics(tmp_path / "tiny" / "metrics.csv"))) == 2
    assert_same_state(checkpoint(straight, 12), checkpoint(tmp_path / "tiny", 12))


class Signal(pl.Callback):
    """Send this process a signal amid the accumulation of step 6."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.numbers = numbers

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        if trainer.global_step == 5 and self.numbers:
            for number in self.numbers:
                os.kill(os.getpid(), number)
            self.numbers = ()


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Put a program of that name first on the path; what it was called with stands in the file that is given back."""

    def make(code: int) -> Path:
        called, program = tmp_path / "called", tmp_path / "bin" / "scontrol"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" >> {called}\necho "Job may not be requeued" >&2\nexit {code}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        return called

    return make


REQUEUE: dict[str, tuple[dict[str, str], Any, str | None, str]] = {
    "job": (JOB, None, "requeue 71", "job 71 is requeued"),
    "no srun": ({"SLURM_JOB_ID": "71"}, None, "requeue 71", "job 71 is requeued"),
    "array": (
        {**JOB, "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "4"},
        None,
        "requeue 70_4",
        "70_4 is requeued",
    ),
    "shell": ({**JOB, "SLURM_JOB_NAME": "interactive"}, None, None, ""),
    "no job": ({}, None, None, ""),
    "tasks": ({**JOB, "SLURM_NTASKS": "2"}, None, None, "job 71 has other tasks, which may still be saving: scontrol"),
    "own": (JOB, SLURMEnvironment, "requeue 71", "job 71 is requeued"),
    "own without": (JOB, lambda: SLURMEnvironment(auto_requeue=False), None, ""),
}


@pytest.mark.parametrize("name", REQUEUE)
def test_warning_of_slurm(
    tmp_path: Path,
    train: Callable[..., int],
    scontrol: Callable[[int], Path],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """It saves at the end of the step, and the job is queued again where somebody would start it again."""
    variables, plugin, wanted, line = REQUEUE[name]
    called = scontrol(0)
    plugins = [plugin()] if plugin else None
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for key, value in variables.items():
            patch.setenv(key, value)
        callbacks = [Signal(signal.SIGUSR1)]
        code = train(trainer__accumulate_grad_batches=2, trainer__callbacks=callbacks, trainer__plugins=plugins)
    assert code == 128 + signal.SIGUSR1
    assert last_checkpoint(tmp_path / "tiny").name == "step=00000006.ckpt"
    said = capsys.readouterr().out
    assert "stopped by SIGUSR1 after step 6; its checkpoint is written" in said
    assert line in said
    assert (called.read_text().strip() if called.exists() else None) == wanted
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_job_that_runs_again_goes_on_to_the_same_bits(
    straight: Path, tmp_path: Path, train: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in JOB.items():
        monkeypatch.setenv(key, value)
    assert train(trainer__callbacks=[Signal(signal.SIGUSR1)]) == 128 + signal.SIGUSR1
    assert train(ckpt_path="last") == 0
    assert_same_state(checkpoint(straight, 12), checkpoint(tmp_path / "tiny", 12))


@pytest.mark.parametrize("there", [True, False])
def test_requeue_that_slurm_refuses_is_said(
    train: Callable[..., int],
    scontrol: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    there: bool,
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    if there:
        scontrol(1)
    else:
        monkeypatch.setenv("PATH", "")
    assert train(trainer__callbacks=[Signal(signal.SIGUSR1)]) == 128 + signal.SIGUSR1
    reason = "Job may not be requeued" if there else "scontrol: "
    assert f"job 71 is not requeued: {reason}" in capsys.readouterr().out


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_after_the_warning_still_waits_for_the_step(
    tmp_path: Path, corpus_file: Path, second: signal.Signals
) -> None:
    """SLURM sends SIGTERM when the time is over, however long the step takes; that job was not to be requeued."""
    callback = Signal(signal.SIGUSR1, second)
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[callback])) == 128 + second
    assert last_checkpoint(tmp_path / "tiny").name == "step=00000006.ckpt"


def test_own_handler_of_the_signal_stays(tmp_path: Path, corpus_file: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        assert fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[Signal(signal.SIGUSR1)])) == 0
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]


def test_fit_outside_the_main_thread(straight: Path, tmp_path: Path, corpus_file: Path) -> None:
    """As a notebook's background job does: no signal can be heard there, and nothing else is another."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(fit(tiny_experiment(tmp_path, corpus_file))))
    thread.start()
    thread.join()
    assert codes == [0]
    assert_same_state(checkpoint(straight, 12), checkpoint(tmp_path / "tiny", 12))


def test_callbacks_are_those_of_the_config(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stranger(pl.Callback):
        pass

    monkeypatch.setattr(callback_connector, "_load_external_callbacks", lambda group: [Stranger()])

    def names(**changes: Any) -> list[str]:
        experiment = tiny_experiment(tmp_path, corpus_file, **changes)
        world = find_world(experiment.trainer)
        trainer = build_trainer(experiment, world, tmp_path, callbacks=[OnExceptionCheckpoint(tmp_path)], loggers=[])
        return [type(callback).__name__ for callback in trainer.callbacks]

    ours = "OnExceptionCheckpoint"
    assert names() == [ours]
    assert names(trainer__max_time="00:01:00:00", trainer__enable_model_summary=True) == [
        "Timer", "RichModelSummary", ours,
    ]  # fmt: skip
    assert names(trainer__callbacks=pl.Callback()) == ["Callback", ours]
    assert names(trainer__callbacks=[RichProgressBar()]) == ["RichProgressBar", ours]


def test_bar_of_the_config_takes_the_place_of_ours(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[RichProgressBar()])
    assert fit(experiment) == 0
    assert "step  5/12" not in capsys.readouterr().out


def test_working_folder_stays_empty(tmp_path: Path, train: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    class Root(pl.Callback):
        def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            where.append(trainer.default_root_dir)

    where: list[str] = []
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert train(trainer__callbacks=[Root()], trainer__profiler=AdvancedProfiler()) == 0
    assert list((tmp_path / "here").iterdir()) == []
    assert where == [str(tmp_path / "tiny")]
    assert json.loads((tmp_path / "tiny" / "provenance.json").read_text())["sessions"]

"""The commands as Python functions: the same as the command line, in one process, any number of times."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from training.tiny import MODEL

import minigpt
from minigpt.cli.main import main
from minigpt.errors import CheckpointError, ConfigError

TINY = {
    **{f"model.{name}": value for name, value in MODEL.items()},
    "data": {"tokenizer": "byte", "batch_size": 2},
    "trainer": {"accelerator": "cpu", "max_steps": 3},
    "run.eval_every": 2,
    "run.eval_batches": 1,
    "run.sample_every": 0,
}


@pytest.fixture
def settings(corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Settings of a tiny run, and an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return {**TINY, "data.corpus": corpus_file}


def test_fit_twice_in_a_process_is_the_command_line(settings: dict[str, object], capsys: pytest.CaptureFixture) -> None:
    before = torch.get_rng_state()
    first = minigpt.fit(settings)
    second = minigpt.fit("base", {**settings, "run.name": "second"})
    assert torch.equal(torch.get_rng_state(), before)
    assert (first.folder, second.folder) == (Path("runs/base"), Path("runs/second"))
    words = minigpt.commands._words({**settings, "run.name": "third"})
    assert main(["fit", *words]) == 0
    third = minigpt.Run(Path("runs/third"))
    for run in (second, third):
        np.testing.assert_array_equal(run.curves["val/loss"].values, first.curves["val/loss"].values)
    assert first.curves["val/loss"].steps.tolist() == [2, 3]
    assert first.best_loss == first.curves["val/loss"].values.min()
    assert first.best_step in {2, 3}
    assert repr(first) == f"run runs/base: finished, step 3 of 3, best validation loss {first.best_loss:.4f}"
    loaded = first.load()
    assert loaded.checkpoint.step == first.best_step
    assert "command" in first.record.sessions[0]
    verdict = minigpt.compare([first, second])
    assert [run.final_loss for run in verdict.runs] == [first.curves["val/loss"].values[-1]] * 2


def test_fit_resumes(settings: dict[str, object]) -> None:
    run = minigpt.fit(settings)
    assert minigpt.fit(resume=run, overrides={"trainer.max_steps": 5}).folder == run.folder
    assert run.state == "finished"
    assert run.curves["val/loss"].steps.tolist() == [2, 3, 4, 5]
    assert minigpt.fit({**settings, "trainer.max_steps": 5}, ckpt_path="last").folder == run.folder  # it is finished


def test_a_checkpoint_that_has_done_its_steps_is_one_line(settings: dict[str, object]) -> None:
    run = minigpt.fit(settings)
    with pytest.raises(ConfigError, match=r"base has done its steps: raise trainer\.max_steps"):
        minigpt.fit({**settings, "run.name": "branch"}, ckpt_path=run.folder)


def test_a_run_without_a_finite_loss_has_a_repr(settings: dict[str, object]) -> None:
    run = minigpt.fit({**settings, "optim.lr": 1e-3})
    path = run.folder / "metrics.csv"
    header, *rows = path.read_text().splitlines()
    place = header.split(",").index("val/loss")
    rows = [",".join("nan" if n == place and cell else cell for n, cell in enumerate(row.split(","))) for row in rows]
    path.write_text("\n".join([header, *rows]) + "\n")
    assert repr(run) == "run runs/base: diverged, step 3 of 3"
    with pytest.raises(CheckpointError, match="has no validation loss"):
        _ = run.best_loss


def test_mistakes_are_the_errors_of_the_command_line(settings: dict[str, object], tmp_path: Path) -> None:
    for overrides, message in (
        ({"model.positon": "rotary"}, "did you mean model.position"),
        ({"model": {"n_head": 3}}, "n_embd"),
        ({"trainer.callbacks": [object()]}, r"trainer\.callbacks=.*must be a plain value"),
        ({3: 4}, "the setting 3 must be a name"),
    ):
        with pytest.raises(ConfigError, match=message):
            minigpt.fit(settings, overrides)
    with pytest.raises(ConfigError, match="did you mean"):
        minigpt.fit("bse", settings)
    with pytest.raises(CheckpointError, match="no_run"):
        minigpt.Run(Path("no_run"))
    with pytest.raises(ConfigError, match="plan has no option devise, did you mean device"):
        minigpt.plan(settings, devise="h200")
    assert list(tmp_path.iterdir()) == []


def test_plan_is_what_the_command_prints(settings: dict[str, object], capsys: pytest.CaptureFixture) -> None:
    planned = minigpt.plan("base", settings, device="h200")
    assert planned.plan.memory.total > 0
    assert main(["plan", "base", "--device", "h200", *minigpt.commands._words(settings)]) == 0
    assert repr(planned) == capsys.readouterr().out.rstrip()


def test_fit_in_a_thread_says_what_it_cannot_do(settings: dict[str, object], capsys: pytest.CaptureFixture) -> None:
    runs: list[minigpt.Run] = []
    thread = threading.Thread(target=lambda: runs.append(minigpt.fit(settings)))
    thread.start()
    thread.join()
    assert runs[0].state == "finished"
    assert "outside the main thread, where Ctrl-C and SIGTERM cannot be waited for" in capsys.readouterr().err


def test_sweep_and_its_comparison(settings: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "pair.yaml"
    path.write_text("base: base\nseeds: [1]\ncells: [{optim.lr: 0.1}, {optim.lr: 0.2}]\n")
    result = minigpt.sweep(path, settings, jobs=2)
    assert [run.state for run in result.runs] == ["finished"] * 2
    assert len(result.compare().runs) == 2

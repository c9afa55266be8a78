"""`minigpt fit --resume RUN`, and which run `--ckpt_path last` means."""

import shutil
from pathlib import Path

import pytest
import yaml

from minigpt.cli.main import main
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.ownership import strangers

FIT = ("fit", "--config", "tiny.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """runs/base, and runs/base-2 with another learning rate, both done; runs/half with 4 steps."""
    place = tmp_path_factory.mktemp("place")
    settings = {
        "run": {"log_every": 2, "eval_every": 4, "save_every": 4, "eval_batches": 2, "sample_every": 0},
        "model": {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16},
        "data": {"corpus": str(corpus_file), "tokenizer": "byte", "batch_size": 4},
        "trainer": {"max_steps": 8, "accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
    }
    (place / "tiny.yaml").write_text(yaml.safe_dump(settings))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*FIT]) == 0
        assert main([*FIT, "--optim.lr", "0.01"]) == 0
        assert main([*FIT, "--run.name", "half", "--trainer.max_steps", "4"]) == 0
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working folder."""
    shutil.copytree(trained, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def test_a_particular_run_goes_on_in_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--resume", "runs/base-2/", "--trainer.max_steps", "12"]) == 0
    out = capsys.readouterr().out
    assert "run      runs/base-2\n" in out
    assert "changed  trainer.max_steps: 8 -> 12\n" in out
    assert "changed  optim" not in out  # its own config holds
    assert sorted(path.name for path in (place / "runs").iterdir()) == ["base", "base-2", "half"]
    config = yaml.safe_load((place / "runs/base-2/config.yaml").read_text())
    assert (config["optim"]["lr"], config["run"]["name"], config["trainer"]["max_steps"]) == (0.01, "base", 12)


@pytest.mark.parametrize("form", ["relative", "absolute", "bare", "checkpoint", "checkpoints", "equals"])
def test_a_renamed_run_is_found(form: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "runs/base-2").rename(place / "runs/good")
    words = {
        "relative": ["--resume", "runs/good"],
        "absolute": ["--resume", str(place / "runs/good")],
        "bare": ["--resume", "good"],
        "checkpoint": ["--resume", "runs/good/checkpoints/step=00000008.ckpt"],
        "checkpoints": ["--resume", "runs/good/checkpoints/"],
        "equals": ["--resume=runs/good", "--run.name=good", "--ckpt_path=last", "--config=runs/good/config.yaml"],
    }[form]
    assert main(["fit", *words]) == 0
    assert "good has done its 8 steps: raise trainer.max_steps to go on" in capsys.readouterr().out
    if form == "relative":
        assert main(["fit", *words, "--trainer.max_steps", "9"]) == 0
        assert yaml.safe_load((place / "runs/good/config.yaml").read_text())["run"]["name"] == "good"


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--resume", "runs/base", "--config", "tiny.yaml"], 2, "--resume runs/base and --config tiny.yaml do not go"),
        (["--resume", "runs/base", "--ckpt_path", "runs/half"], 2, "--ckpt_path runs/half do not go together"),
        (["--resume", "runs/base", "--run.name", "x"], 2, "and --run.name x do not go together: it names the folder"),
        (["--resume", "runs/bese"], 1, "--resume runs/bese: there is no such run, did you mean base?"),
        (["--resume", "runs"], 1, "--resume runs: it is no run of minigpt's"),
        (["--resume", "tiny.yaml"], 1, "--resume tiny.yaml: it is no run of minigpt's"),
        (["--resume"], 2, "--resume needs the folder of a run"),
        (["--resume", "--optim.lr", "1"], 2, "--resume needs the folder of a run"),
        (["--resume", "runs/base", "--resume", "runs/half"], 2, "--resume is given twice"),
        (["--resume", "runs/base/checkpoints/step=00000004.ckpt"], 2, "not the newest checkpoint of runs/base, which"),
        (["--resume", "runs/base", "--optim.rl", "1"], 2, "unknown key optim.rl"),
    ],
)
def test_what_contradicts_is_one_line(
    words: list[str], code: int, reason: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *words]) == code
    captured = capsys.readouterr()
    assert reason in captured.err
    assert captured.err.count("\n") == 1


def test_last_means_this_experiment(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--ckpt_path", "last"]) == 0  # base-2 is newer, and another experiment
    assert "runs/base has done its 8 steps" in capsys.readouterr().out
    assert main([*FIT, "--optim.lr", "0.01", "--run.eval_every", "2", "--ckpt_path", "last"]) == 0
    assert "runs/base-2 has done its 8 steps" in capsys.readouterr().out
    assert main([*FIT, "--optim.lr", "0.5", "--ckpt_path", "last"]) == 2
    said = capsys.readouterr().err
    assert "which run? none in runs has this config: minigpt fit --resume runs/base-2 (optim.lr 0.01, here 0.5)" in said
    assert said.count("\n") == 1
    assert main([*FIT, "--run.name", "base-2", "--optim.lr", "0.01", "--ckpt_path", "last"]) == 0
    assert "runs/base-2 has done its 8 steps" in capsys.readouterr().out
    assert main([*FIT, "--run.name", "half", "--optim.lr", "0.5", "--ckpt_path", "last"]) == 0
    assert "changed  optim.lr: 0.003 -> 0.5" in capsys.readouterr().out  # the only one of its name: changes are shown


def test_a_finished_run_of_another_experiment_is_said_to_be_one(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run.name", "half", "--trainer.max_steps", "4", "--optim.lr", "0.5", "--ckpt_path", "last"]
    assert main([*FIT, *words]) == 2
    assert "runs/half is another experiment (optim.lr 0.003, here 0.5) and has done its 4" in capsys.readouterr().err


def test_a_run_without_a_checkpoint_is_not_another_ones(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = place / "runs/half"
    shutil.rmtree(run / "checkpoints")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    words = [*FIT, "--run.name", "half", "--ckpt_path", "last"]
    assert main([*words, "--model.n_layer", "2"]) == 2
    said = capsys.readouterr().err
    assert "runs/half is another experiment (model.n_layer 1, here 2) and has no checkpoint yet" in said
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "runs/half has no checkpoint yet: beginning anew; what it had written is in runs/half/earlier-1" in out
    assert "changed  trainer.max_steps: 4 -> 8" in out
    for name in ("config.yaml", "metrics.csv", *(name for name in before if name.startswith("events."))):
        assert (run / "earlier-1" / name).read_bytes() == before[name]
    assert max(read_metrics(run / "metrics.csv")) == 8
    assert strangers(run) == []


def test_a_branch_without_a_checkpoint_does_not_begin_from_nothing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, "--run.name", "branch", "--trainer.max_steps", "9", "--ckpt_path", "runs/base"]) == 0
    shutil.rmtree(place / "runs/branch/checkpoints")
    assert main(["fit", "--resume", "runs/branch"]) == 1
    assert "runs/branch began from runs/base/checkpoints/step=00000008.ckpt" in capsys.readouterr().err

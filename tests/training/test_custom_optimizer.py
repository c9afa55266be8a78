"""An optimizer and a schedule of the user's own in a run: resume, divergence and replay, verify."""

import math
import sys
from pathlib import Path

import pytest
import torch

from minigpt.cli.main import main
from minigpt.errors import CheckpointError, ConfigError, TrainingError
from minigpt.lab.replay import replay
from minigpt.runs.archive import write_archive
from minigpt.runs.divergence_snapshot import read_snapshot
from minigpt.training.fit import fit

from .callbacks.test_divergence_guard import SpoilGradient
from .tiny import assert_same_state, checkpoint, tiny_experiment

IDEAS = """
from torch.optim import Adagrad

class Slow(Adagrad):
    def __init__(self, params, lr=0.01, weight_decay=0.0, patience=3):
        super().__init__(params, lr=lr, weight_decay=weight_decay, initial_accumulator_value=patience)

def one_cycle(step, steps, settings):
    return 1 - abs(2 * (step + 1) / (steps + 1) - 1)
"""
OWN = {"optim__name": "own_ideas.Slow", "optim__options": {"patience": 2}, "optim__schedule": "own_ideas.one_cycle"}
ADAGRAD = {"optim__name": "torch.optim.Adagrad", "optim__options": {"lr_decay": 0.01}}


@pytest.fixture(autouse=True)
def _ideas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_ideas.py").write_text(IDEAS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_ideas", raising=False)


@pytest.mark.parametrize("settings", [OWN, ADAGRAD], ids=["own", "torch"])
def test_resumed_equals_straight(tmp_path: Path, corpus_file: Path, settings: dict) -> None:
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file, **settings)) == 0
    # A schedule depends on the steps of the run, so the first part is stopped early and not shorter.
    short = {"trainer__max_steps": 7} if settings is ADAGRAD else {}
    with pytest.MonkeyPatch.context() as patch:
        if not short:
            patch.setattr("minigpt.training.run.early_end", lambda _: "the test stops here")
        first = tiny_experiment(tmp_path / "parts", corpus_file, **settings, **short)
        assert fit(first) == 0
    assert fit(tiny_experiment(tmp_path / "parts", corpus_file, **settings), ckpt_path="last") == 0
    one, other = (checkpoint(tmp_path / name / "tiny", 12) for name in ("straight", "parts"))
    assert_same_state(one, other)
    assert "sum" in one["optimizer_states"][0]["state"][0]


def test_another_optimizer_and_a_spoilt_state_are_one_line(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, **ADAGRAD, trainer__max_steps=4)) == 0
    with pytest.raises(ConfigError, match=r"optim.name=adamw differs from torch.optim.Adagrad in the checkpoint"):
        fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last")
    path = tmp_path / "tiny/checkpoints/step=00000004.ckpt"
    good = torch.load(path, weights_only=True)
    good["optimizer_states"][0]["state"][0]["sum"] = torch.zeros(3)
    write_archive(good, path)
    message = "00000004.ckpt: training cannot go on from it: its optimizer state does not .* 'sum' of parameter 0"
    with pytest.raises(CheckpointError, match=message):
        fit(tiny_experiment(tmp_path, corpus_file, **ADAGRAD), ckpt_path="last")


def test_position_that_is_not_right_is_one_line(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    path = tmp_path / "tiny/checkpoints/step=00000004.ckpt"
    good = torch.load(path, weights_only=True)
    for spoil, message in (
        (lambda c: c["loops"]["fit_loop"]["epoch_progress"]["total"].update(ready="x"), "total.ready' of its position"),
        (lambda c: c["loops"].update(fit_loop=[]), "'fit_loop' of its position is not right"),
        (lambda c: c["TokenDataModule"].update(batches=-1), "-1 is not a number of batches or steps"),
        (lambda c: c["callbacks"]["DivergenceGuard"].update(losses=["high"]), "could not convert string to float"),
        (lambda c: c.update({"pytorch-lightning_version": "x"}), "training cannot go on from it"),
    ):
        bad = torch.load(path, weights_only=True)
        spoil(bad)
        torch.save(bad, tmp_path / "bad.ckpt")
        with pytest.raises(CheckpointError, match=rf"bad.ckpt: .*{message}") as caught:
            fit(tiny_experiment(tmp_path, corpus_file), ckpt_path=str(tmp_path / "bad.ckpt"))
        assert "\n" not in str(caught.value)
    torch.save(good, tmp_path / "good.ckpt")
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path=str(tmp_path / "good.ckpt")) == 0


def test_diverged_step_is_kept_and_done_again(tmp_path: Path, corpus_file: Path) -> None:
    with pytest.raises(TrainingError, match="step 7"):
        fit(tiny_experiment(tmp_path, corpus_file, **OWN, trainer__callbacks=[SpoilGradient(6)]))
    snapshot = read_snapshot(tmp_path / "tiny" / "divergences" / "step=00000007.pt")
    assert snapshot.optim is not None
    assert (snapshot.optim.name, snapshot.optim.options) == ("own_ideas.Slow", {"patience": 2})
    again = replay(snapshot, torch.device("cpu"))
    assert again.losses == snapshot.losses
    assert all(map(math.isfinite, again.update_norms.values()))


def test_verify_and_the_command_line(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["model.block_size=16", "model.n_layer=1", "model.n_head=2", "model.n_embd=16", "data.tokenizer=byte"]
    words += [f"data.corpus={corpus_file}", "data.batch_size=4", "trainer.max_steps=8", "trainer.accelerator=cpu"]
    words += ["run.save_every=4", "run.sample_every=0", "run.name=r", "optim.name=own_ideas.Slow"]
    assert main(["fit", *(f"--{word}" for word in [*words, "optim.options.patience=2"])]) == 0
    assert main(["verify", "runs/r"]) == 0
    capsys.readouterr()
    assert main(["fit", *(f"--{word}" for word in [*words, "optim.options={patienec: 2}"])]) == 2
    assert capsys.readouterr().err == (
        "minigpt: error: optim.options.patienec: own_ideas.Slow takes no such argument, did you mean patience?\n"
    )
    assert not Path("runs/r-2").exists()

"""A step that diverges: kept, replayed, and then the run stops or goes on without it."""

import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from minigpt.cli.main import main
from minigpt.data.tokenizers import ByteTokenizer
from minigpt.errors import TrainingError
from minigpt.lab.replay import replay
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.runs.divergence_snapshot import read_snapshot
from minigpt.runs.metrics_csv import read_metrics
from minigpt.runs.status import ended
from minigpt.training.callbacks import divergence_guard as guard
from minigpt.training.callbacks import step_snapshots as observed
from minigpt.training.callbacks.divergence_guard import LEAST, OVERFLOWS, DivergenceGuard
from minigpt.training.fit import fit
from training.tiny import assert_same_state, checkpoint, tiny_experiment


@pytest.fixture(params=[False, True], ids=["now", "later"])
def later(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Judge each step at once, as on a CPU, or while the next one is computed, as on a GPU."""
    monkeypatch.setattr(guard, "reading_waits", lambda device: request.param)
    return request.param


class SpoilWeights(pl.Callback):
    """Before a batch, make one weight so large that the loss of that step is not finite."""

    def __init__(self, *steps: int, value: float = float("nan"), restore: bool = True) -> None:
        self.steps = steps
        self.value = value
        self.restore = restore

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in self.steps:
            self.kept = pl_module.gpt.token_embedding.weight.detach().clone()
            with torch.no_grad():
                pl_module.gpt.token_embedding.weight.copy_(self.kept.sign() * self.value)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self.restore and trainer.global_step - 1 in self.steps:
            with torch.no_grad():
                pl_module.gpt.token_embedding.weight.copy_(self.kept)


class SpoilGradient(pl.Callback):
    """Multiply one gradient by infinity at some steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step in self.steps:
            pl_module.gpt.blocks[0].attention.qkv.weight.grad.mul_(float("inf"))


def test_stopped_run_names_a_snapshot_that_replays(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str], later: bool
) -> None:
    spoilt = SpoilWeights(6, value=1e30, restore=False)
    experiment = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[spoilt])
    with pytest.raises(TrainingError, match=r"not finite .* at step 7 .*; minigpt replay .* shows the step") as caught:
        fit(experiment)
    path = Path(re.search(r"minigpt replay (\S+) ", str(caught.value))[1])
    assert path == tmp_path / "tiny" / "divergences" / "step=00000007.pt"
    capsys.readouterr()
    assert main(["replay", str(path), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "step      7 (batch 6)" in said
    assert "update    it would have spoilt " in said
    assert said.endswith("\nreproduced\n")


def test_replay_is_exact_to_the_bit_and_knows_the_dropout(tmp_path: Path, corpus_file: Path, later: bool) -> None:
    """A gradient that is spoilt after the backward pass leaves losses that can be compared."""
    experiment = tiny_experiment(
        tmp_path, corpus_file, trainer__callbacks=[SpoilGradient(6)], trainer__accumulate_grad_batches=3
    )
    with pytest.raises(TrainingError, match=r"gradient is not finite .* at step 7"):
        fit(experiment)
    snapshot = read_snapshot(tmp_path / "tiny" / "divergences" / "step=00000007.pt")
    assert (snapshot.step, snapshot.batch, len(snapshot.batches)) == (7, 18, 3)
    again = replay(snapshot, torch.device("cpu"))
    assert again.losses == snapshot.losses
    for name, norm in again.grad_norms.items():
        if name != "blocks.0.attention.qkv.weight":
            assert norm == snapshot.grad_norms[name], name
    other = replay(type(snapshot)(**{**vars(snapshot), "seed": 4}), torch.device("cpu"))
    assert other.losses != snapshot.losses, "dropout must matter"


def test_skipped_step_changes_nothing_and_the_run_goes_on(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str], later: bool
) -> None:
    class Watch(SpoilGradient):
        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step in self.steps:
                self.before = {key: value.clone() for key, value in pl_module.gpt.state_dict().items()}

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step - 1 in self.steps:
                for key, value in pl_module.gpt.state_dict().items():
                    assert torch.equal(value, self.before[key])

    experiment = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[Watch(6)], run__on_divergence="skip")
    assert fit(experiment) == 0
    assert "skipped  1 steps that diverged" in capsys.readouterr().out
    assert read_checkpoint(tmp_path / "tiny" / "checkpoints" / "step=00000012.ckpt").step == 12
    states = checkpoint(tmp_path / "tiny", 12)["optimizer_states"][0]["state"]
    assert {int(state["step"]) for state in states.values()} == {11}


def test_resume_after_a_skip_is_exact(tmp_path: Path, corpus_file: Path, later: bool) -> None:
    for root, parts in {"straight": [12], "parts": [8, 12]}.items():
        for number, steps in enumerate(parts):
            experiment = tiny_experiment(
                tmp_path / root,
                corpus_file,
                trainer__callbacks=[SpoilGradient(6)],
                run__on_divergence="skip",
                trainer__max_steps=steps,
            )
            assert fit(experiment, ckpt_path="last" if number else None) == 0
    straight, parts = (checkpoint(tmp_path / root / "tiny", 12) for root in ("straight", "parts"))
    assert_same_state(straight, parts)
    guards = [state for name, state in straight["callbacks"].items() if "DivergenceGuard" in name]
    assert guards == [state for name, state in parts["callbacks"].items() if "DivergenceGuard" in name]
    assert guards[0]["skipped"] == 1


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_judged_later_is_judged_the_same(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Weights, optimizer, what the guard remembers and what it kept, to the last bit."""
    for root in ("now", "later"):
        monkeypatch.setattr(guard, "reading_waits", lambda device, root=root: root == "later")
        words = {"run__on_divergence": "skip", "optim__name": name, "optim__weight_decay": 0.1}
        spoilt = SpoilGradient(0, 6, 7)
        assert fit(tiny_experiment(tmp_path / root, corpus_file, trainer__callbacks=[spoilt], **words)) == 0
    now, late = (checkpoint(tmp_path / root / "tiny", 12) for root in ("now", "later"))
    assert_same_state(now, late)
    assert guard_state(tmp_path / "now" / "tiny", 12) == guard_state(tmp_path / "later" / "tiny", 12)
    for step in (1, 7, 8):
        one, other = (
            vars(read_snapshot(tmp_path / root / "tiny" / "divergences" / f"step={step:08d}.pt"))
            for root in ("now", "later")
        )
        assert one["optimizer"]["param_groups"] == other["optimizer"]["param_groups"]
        for key in ("reason", "step", "batch", "losses", "grad_norm", "grad_norms"):
            assert str(one[key]) == str(other[key]), key
        for key, weight in one["weights"].items():
            assert torch.equal(weight, other["weights"][key])


def test_the_last_step_is_judged_before_anything_is_saved(tmp_path: Path, corpus_file: Path, later: bool) -> None:
    experiment = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[SpoilGradient(11)])
    with pytest.raises(TrainingError, match="at step 12"):
        fit(experiment)
    assert not (tmp_path / "tiny" / "checkpoints" / "step=00000012.ckpt").exists()


def test_later_means_that_no_step_is_waited_for(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """Numbers are read when the next step has been given to the device, or before something of the step is shown."""
    events: list[str] = []
    read, observe = observed.Underway.read, guard.observe
    monkeypatch.setattr(observed.Underway, "read", lambda self: events.append("read") or read(self))
    monkeypatch.setattr(guard, "observe", lambda *each: events.append("given") or observe(*each))
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4, run__log_every=3)) == 0
    # The third step is a log step, the fourth the last.
    one_behind = ["given", "given", "read", "given", "read", "read", "given", "read"]
    assert events == (one_behind if later else ["given", "read"] * 4)


def test_a_row_of_bad_steps_stops_even_a_run_that_skips(tmp_path: Path, corpus_file: Path, later: bool) -> None:
    experiment = tiny_experiment(
        tmp_path,
        corpus_file,
        trainer__callbacks=[SpoilGradient(*range(3, 20))],
        run__on_divergence="skip",
        trainer__max_steps=30,
    )
    with pytest.raises(TrainingError, match=r"at step 13, the 10th step in a row"):
        fit(experiment)
    assert len(list((tmp_path / "tiny" / "divergences").iterdir())) == 3


def test_spike_is_measured_in_standard_deviations() -> None:
    judge = DivergenceGuard(Path(), "stop", 3.0, tokenizer=ByteTokenizer())
    judge.losses.extend([2.0, 2.2] * (LEAST // 2 - 1))
    assert judge.verdict(100.0, 1.0) is None, "too few losses to judge by"
    judge.losses.extend([2.0, 2.2])
    assert judge.verdict(2.39, 1.0) is None  # mean 2.1, deviation 0.1
    assert "the loss 2.4100 spikes" in judge.verdict(2.41, 1.0)
    assert "not finite (inf)" in judge.verdict(float("inf"), 1.0)
    assert "gradient is not finite" in judge.verdict(2.1, float("nan"))
    quiet = DivergenceGuard(Path(), "stop", None, tokenizer=ByteTokenizer())
    quiet.losses.extend([2.0, 2.2] * LEAST)
    assert quiet.verdict(100.0, 1.0) is None


def test_spike_in_a_run_stops_it(tmp_path: Path, corpus_file: Path) -> None:
    experiment = tiny_experiment(
        tmp_path,
        corpus_file,
        trainer__callbacks=[SpoilWeights(29, value=50.0)],
        run__spike_threshold=4.0,
        trainer__max_steps=40,
    )
    with pytest.raises(TrainingError, match=r"the loss .* spikes: .* at step 30"):
        fit(experiment)


def test_replay_makes_the_update_that_the_run_would_have_made(tmp_path: Path, corpus_file: Path) -> None:
    """A spike leaves everything finite: with the same state, clipping and rate the weights move as without a guard."""
    changes = {"trainer__max_steps": 40, "trainer__gradient_clip_val": 0.1}
    spoilt = SpoilWeights(29, value=50.0)
    with pytest.raises(TrainingError, match=r"spikes: .* at step 30"):
        fit(
            tiny_experiment(
                tmp_path / "a", corpus_file, trainer__callbacks=[spoilt], run__spike_threshold=4.0, **changes
            )
        )
    snapshot = read_snapshot(tmp_path / "a" / "tiny" / "divergences" / "step=00000030.pt")

    class Watch(SpoilWeights):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 30:
                self.after = {name: value.detach().clone() for name, value in pl_module.gpt.named_parameters()}

    watch = Watch(29, value=50.0)
    assert fit(tiny_experiment(tmp_path / "b", corpus_file, trainer__callbacks=[watch], **changes)) == 0
    again = replay(snapshot, torch.device("cpu"))
    assert again.losses == snapshot.losses
    for name, value in watch.after.items():
        moved = float(torch.linalg.vector_norm(value - snapshot.weights[name]))
        assert again.update_norms[name] == pytest.approx(moved, rel=1e-6), name


class SpoilScaledGradient(pl.Callback):
    """Infinite gradients right after the backward pass, where the scaler looks for them."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.global_step in self.steps:
            pl_module.gpt.blocks[0].attention.qkv.weight.grad.mul_(float("inf"))


def half(tmp_path: Path, corpus_file: Path, *steps: int, **changes: Any) -> Any:
    """A run in float16 with a scaler, which Lightning itself only gives to a GPU."""
    return tiny_experiment(
        tmp_path,
        corpus_file,
        trainer__precision=None,
        trainer__plugins=[MixedPrecision("16-mixed", "cpu")],
        trainer__callbacks=[SpoilScaledGradient(*steps)],
        trainer__max_steps=40,
        **changes,
    )


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_float16_skips_of_the_scaler_are_silent_but_not_for_ever(
    tmp_path: Path, corpus_file: Path, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    some = (0, 1, 2, *range(6, 6 + OVERFLOWS - 1))
    assert fit(half(tmp_path / "some", corpus_file, *some, run__on_divergence=policy)) == 0
    assert "skipped" not in capsys.readouterr().out
    assert not (tmp_path / "some" / "tiny" / "divergences").exists()
    with pytest.raises(
        TrainingError, match=rf"gradient is not finite .* at step {6 + OVERFLOWS}, the 30th step in a row"
    ):
        fit(half(tmp_path / "all", corpus_file, *range(6, 99), run__on_divergence=policy))
    snapshot = read_snapshot(tmp_path / "all" / "tiny" / "divergences" / f"step={6 + OVERFLOWS:08d}.pt")
    assert snapshot.loss_scale == 2.0 ** (16 - OVERFLOWS + 1)
    again = replay(snapshot, torch.device("cpu"))
    assert again.losses == snapshot.losses


def guard_state(folder: Path, step: int) -> dict[str, Any]:
    states = checkpoint(folder, step)["callbacks"]
    return next(state for name, state in states.items() if "DivergenceGuard" in name)


def test_what_a_branch_inherits_of_the_losses(tmp_path: Path, corpus_file: Path) -> None:
    """The losses while the text is the same, the number of skipped steps never; with other weights' start nothing."""
    words = {"trainer__callbacks": [SpoilGradient(3)], "run__on_divergence": "skip"}
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=8, **words)) == 0
    parent = guard_state(tmp_path / "tiny", 8)
    assert (len(parent["losses"]), parent["skipped"]) == (7, 1)
    source = str(tmp_path / "tiny" / "checkpoints" / "step=00000008.ckpt")
    other_text = tmp_path / "other.txt"
    other_text.write_text(corpus_file.read_text().replace("make", "give"))

    def state_of(name: str, corpus: Path, ckpt_path: str | None, **changes: Any) -> dict[str, Any]:
        assert fit(tiny_experiment(tmp_path, corpus, run__name=name, **changes), ckpt_path=ckpt_path) == 0
        return guard_state(tmp_path / name, 12)

    same = state_of("same", corpus_file, source)
    assert same["losses"][:7] == parent["losses"]
    assert (len(same["losses"]), same["skipped"]) == (11, 0)
    text = state_of("text", other_text, source)
    assert (len(text["losses"]), text["skipped"]) == (4, 0)
    weights = state_of("weights", corpus_file, None, run__init_from=source)
    assert (len(weights["losses"]), weights["skipped"]) == (12, 0)
    resumed = state_of("tiny", other_text, "last")
    assert (len(resumed["losses"]), resumed["skipped"]) == (4, 1)


def test_the_advice_knows_whether_there_is_a_checkpoint(tmp_path: Path, corpus_file: Path) -> None:
    for step, advice in {3: "begin anew: no checkpoint was written yet", 6: "go on from the last checkpoint"}.items():
        root = tmp_path / str(step)  # a checkpoint is written after six
        with pytest.raises(TrainingError, match=rf"at step {step + 1} .* and {advice}"):
            fit(tiny_experiment(root, corpus_file, trainer__callbacks=[SpoilGradient(step)], run__save_every=6))


@pytest.mark.parametrize(("step", "log_every"), [(6, 2), (8, 1), (12, 2)])
def test_a_run_that_diverged_is_told_as_such(
    tmp_path: Path, corpus_file: Path, later: bool, step: int, log_every: int
) -> None:
    """Nothing of the bad step is shown: no row of it stands in metrics.csv, by which a run would have got over it."""
    spoilt = SpoilGradient(step - 1)
    with pytest.raises(TrainingError, match=f"at step {step} "):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[spoilt], run__log_every=log_every))
    run = tmp_path / "tiny"
    metrics = read_metrics(run / "metrics.csv")
    assert max(metrics) < step
    steps = [int(path.stem.removeprefix("step=")) for path in (run / "checkpoints").glob("step=*.ckpt")]
    assert ended(run, 12, metrics, steps) == "diverged"

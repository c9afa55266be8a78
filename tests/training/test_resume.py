"""A resumed run equals the straight one to the bit, in its own folder and curve; a stop is exact at any moment."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from minigpt.data.batches import TrainOrder
from minigpt.errors import CheckpointError, ConfigError
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.callbacks.curves import WALL_CLOCK
from minigpt.training.changes import config_changes
from minigpt.training.fit import fit

from .tiny import assert_same_state, checkpoint, curve, tiny_experiment


class SignalAt(Callback):
    """Send this process a signal at the start of a batch."""

    def __init__(self, batch: int, number: int = signal.SIGINT) -> None:
        self.batch = batch
        self.number = number

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), self.number)


class FailAt(Callback):
    """Raise an exception in the middle of a run."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == self.batch:
            raise RuntimeError("a step failed")


def without_times(folder: Path) -> dict[int, dict[str, float]]:
    rows = read_metrics(folder / "metrics.csv")
    return {step: {name: v for name, v in row.items() if name not in WALL_CLOCK} for step, row in rows.items()}


@pytest.mark.parametrize("workers", [(0, 0), (0, 2)])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_resumed_equals_straight(tmp_path: Path, corpus_file: Path, accumulate: int, workers: tuple[int, int]) -> None:
    """With dropout; the first part ends at a step that is no multiple of any cadence."""
    settings = {"trainer__accumulate_grad_batches": accumulate}
    straight = tiny_experiment(tmp_path / "straight", corpus_file, **settings)
    assert fit(straight) == 0
    for steps, n in ((7, workers[0]), (12, workers[1])):
        part = tiny_experiment(
            tmp_path / "parts", corpus_file, **settings, trainer__max_steps=steps, data__num_workers=n
        )
        assert fit(part, ckpt_path=None if steps == 7 else "last") == 0
    one, other = tmp_path / "straight" / "tiny", tmp_path / "parts" / "tiny"
    assert_same_state(checkpoint(one, 12), checkpoint(other, 12))
    assert not (tmp_path / "parts" / "tiny-2").exists()
    rows, resumed = without_times(one), without_times(other)
    assert {7} == resumed.keys() - rows.keys()  # the last step of the first part was logged too
    for step, row in rows.items():
        assert resumed[step] == row
    assert [step for step, _ in curve(other, "train/loss")] == [2, 4, 6, 7, 8, 10, 12]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_stop_by_a_signal_saves_at_the_end_of_the_step(
    tmp_path: Path, corpus_file: Path, number: int, accumulate: int, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"trainer__accumulate_grad_batches": accumulate}
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file, **settings)) == 0
    callback = SignalAt(6 * accumulate + accumulate // 2, number)  # within the 7th step
    stopped = tiny_experiment(tmp_path / "stopped", corpus_file, **settings, trainer__callbacks=[callback])
    assert fit(stopped) == 128 + number
    assert "after step 7" in capsys.readouterr().out
    assert fit(tiny_experiment(tmp_path / "stopped", corpus_file, **settings), ckpt_path="last") == 0
    one, other = tmp_path / "straight" / "tiny", tmp_path / "stopped" / "tiny"
    assert_same_state(checkpoint(one, 12), checkpoint(other, 12))
    assert without_times(one) == without_times(other)


def test_signal_handlers_are_given_back(tmp_path: Path, corpus_file: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=1)) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_exception_in_a_step(tmp_path: Path, corpus_file: Path) -> None:
    """The checkpoint before it is good, and the curve has each step once."""
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file)) == 0
    failing = tiny_experiment(tmp_path / "failed", corpus_file, trainer__callbacks=[FailAt(8)])
    with pytest.raises(RuntimeError, match="a step failed"):
        fit(failing)
    assert fit(tiny_experiment(tmp_path / "failed", corpus_file), ckpt_path="last") == 0
    one, other = tmp_path / "straight" / "tiny", tmp_path / "failed" / "tiny"
    assert_same_state(checkpoint(one, 12), checkpoint(other, 12))
    assert without_times(one) == without_times(other)
    assert [step for step, _ in curve(other, "val/loss")] == [5, 10, 12]


def test_four_resumes_in_a_row(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file)) == 0
    for number, steps in enumerate((1, 4, 5, 11, 12)):
        part = tiny_experiment(tmp_path / "parts", corpus_file, trainer__max_steps=steps)
        assert fit(part, ckpt_path="last" if number else None) == 0
    assert_same_state(checkpoint(tmp_path / "straight" / "tiny", 12), checkpoint(tmp_path / "parts" / "tiny", 12))


def test_truncated_newest_checkpoint_is_passed_over(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file)) == 0
    newest = tmp_path / "tiny" / "checkpoints" / "step=00000012.ckpt"
    expected = checkpoint(tmp_path / "tiny", 12)
    newest.write_bytes(newest.read_bytes()[:5000])
    for name in ("checkpoints/.step=00000016.ckpt.tmp-1", ".metrics.csv.tmp-1", "divergences/.step=00000003.pt.tmp-1"):
        (tmp_path / "tiny" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "tiny" / name).write_bytes(b"left by a kill")
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last") == 0
    assert_same_state(expected, checkpoint(tmp_path / "tiny", 12))
    assert not list((tmp_path / "tiny").rglob(".*.tmp-*"))


def test_best_loss_must_be_beaten_after_a_resume(tmp_path: Path, corpus_file: Path) -> None:
    """The checkpoint of a step knows what that step's own validation gave."""
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=10, run__save_every=5)) == 0
    rows = read_metrics(tmp_path / "tiny" / "metrics.csv")
    state = checkpoint(tmp_path / "tiny", 10)["callbacks"]["Checkpoints"]
    assert state == {"best_loss": rows[10]["val/loss"], "best_step": 10}
    best = (tmp_path / "tiny" / "checkpoints" / "best.ckpt").read_bytes()
    worse = tiny_experiment(tmp_path, corpus_file, optim__lr=1.0)
    assert fit(worse, ckpt_path="last") == 0
    rows = read_metrics(tmp_path / "tiny" / "metrics.csv")
    assert rows[12]["val/loss"] > rows[10]["val/loss"]
    assert (tmp_path / "tiny" / "checkpoints" / "best.ckpt").read_bytes() == best


def test_death_between_a_checkpoint_and_the_best_one(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step is the best one too. What a death between the two files leaves must be seen by the resumed run."""
    settings = {"run__eval_every": 4}
    assert fit(tiny_experiment(tmp_path / "straight", corpus_file, **settings)) == 0

    real = os.link

    def link(source: Path, target: Path) -> None:
        if "=00000012" in f"{source}{target}":
            raise RuntimeError("killed")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", link)
        with pytest.raises(RuntimeError, match="killed"):
            fit(tiny_experiment(tmp_path / "killed", corpus_file, **settings))
    assert fit(tiny_experiment(tmp_path / "killed", corpus_file, **settings), ckpt_path="last") == 0
    one, other = (read_checkpoint(tmp_path / name / "tiny/checkpoints/best.ckpt") for name in ("straight", "killed"))
    assert one.step == other.step == 12
    for name, weight in one.weights.items():
        assert torch.equal(weight, other.weights[name]), name


def test_branch_has_a_best_of_its_own(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=10)) == 0
    worse = tiny_experiment(tmp_path, corpus_file, optim__lr=1.0)
    assert fit(worse, ckpt_path=str(tmp_path / "tiny")) == 0
    best = read_checkpoint(tmp_path / "tiny-2" / "checkpoints" / "best.ckpt")
    assert (best.step, best.val_loss) == (12, read_metrics(tmp_path / "tiny-2" / "metrics.csv")[12]["val/loss"])


@pytest.mark.parametrize("sizes", [(4, 2), (2, 4)])
def test_another_batch_size_goes_on_with_the_next_window(
    tmp_path: Path, corpus_file: Path, sizes: tuple[int, int]
) -> None:
    """No window is read twice and none is left out, however the batch size changes."""
    read: list[int] = []
    real = TrainOrder.read

    def noting(self: TrainOrder, first: int, count: int) -> Any:
        read.extend(range(first, first + count))
        return real(self, first, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainOrder, "read", noting)
        for steps, size in zip((5, 9), sizes, strict=True):
            part = tiny_experiment(tmp_path, corpus_file, data__batch_size=size, trainer__max_steps=steps)
            first = len(read)
            assert fit(part, ckpt_path=None if steps == 5 else "last") == 0
            del read[first + size * (5 if steps == 5 else 4) :]  # what was prefetched and never trained on
    assert read == list(range(5 * sizes[0] + 4 * sizes[1]))


def test_changed_settings_count_after_a_resume(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=6)) == 0
    changed = tiny_experiment(tmp_path, corpus_file, optim__lr=5e-3, optim__weight_decay=0.7)
    assert fit(changed, ckpt_path="last") == 0
    group = checkpoint(tmp_path / "tiny", 12)["optimizer_states"][0]["param_groups"][0]
    assert (group["lr"], group["weight_decay"]) == (5e-3, 0.7)


def test_nothing_left_to_do(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file)) == 0
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last") == 0
    assert "raise trainer.max_steps" in capsys.readouterr().out


def test_last_means_the_newest_run_of_the_name(tmp_path: Path, corpus_file: Path) -> None:
    for _ in range(2):
        assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=8), ckpt_path="last") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny-2"]
    assert not (tmp_path / "tiny" / "checkpoints" / "step=00000008.ckpt").exists()
    assert (tmp_path / "tiny-2" / "checkpoints" / "step=00000008.ckpt").exists()


def test_file_begins_a_new_run(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file)) == 0
    path = tmp_path / "tiny" / "checkpoints" / "step=00000008.ckpt"
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path=str(path)) == 0
    assert_same_state(checkpoint(tmp_path / "tiny", 12), checkpoint(tmp_path / "tiny-2", 12))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model__n_layer": 2}, ConfigError, r"model.n_layer=2 differs from 1 in the checkpoint .*step=00000004.ckpt"),
        ({"data__tokenizer": "char"}, ConfigError, r"data.tokenizer=char differs from byte in the checkpoint"),
        ({"model__n_embd": 32}, ConfigError, r"model.n_embd=32 differs from 16 in the checkpoint"),
        ({"run__name": "tinny"}, CheckpointError, r"--ckpt_path last: there is no run tinny in .*did you mean tiny\?"),
    ],
)
def test_resume_that_cannot_be(
    tmp_path: Path, corpus_file: Path, changes: dict, error: type[Exception], message: str
) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    with pytest.raises(error, match=message):
        fit(tiny_experiment(tmp_path, corpus_file, **changes), ckpt_path="last")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_empty_ckpt_path_is_refused(tmp_path: Path, corpus_file: Path) -> None:
    with pytest.raises(ConfigError, match="--ckpt_path=''"):
        fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="")


def test_state_of_a_users_callback_is_that_of_the_step_it_was_stopped_at(tmp_path: Path, corpus_file: Path) -> None:
    class Counter(Callback):
        steps = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps += 1

        def state_dict(self) -> dict[str, int]:
            return {"steps": self.steps}

    stopped = tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[SignalAt(6), Counter()])
    assert fit(stopped) == 130
    states = checkpoint(tmp_path / "tiny", 7)["callbacks"]
    assert [state for name, state in states.items() if name.endswith("Counter")] == [{"steps": 7}]


def test_other_text_is_cut_into_the_tokens_of_the_checkpoint(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bpe = {"data__tokenizer": "bpe", "data__vocab_size": 280}
    assert fit(tiny_experiment(tmp_path, corpus_file, **bpe, trainer__max_steps=4)) == 0
    before = (tmp_path / "tiny" / "tokenizer.json").read_text()
    other = tmp_path / "other.txt"
    other.write_text("Something else altogether, which a tokenizer would cut otherwise. " * 200)
    assert fit(tiny_experiment(tmp_path, other, **bpe, trainer__max_steps=8), ckpt_path="last") == 0
    assert "the text is not the one" in capsys.readouterr().out
    assert (tmp_path / "tiny" / "tokenizer.json").read_text() == before


def test_full_disk_while_saving_keeps_the_last_good_one(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, saves = torch.save, []

    def save(content: Any, path: Any, **settings: Any) -> None:
        saves.append(path)
        if len(saves) == 2:
            path.write(b"half of a checkpoint")
            raise OSError(28, "No space left on device")
        real(content, path, **settings)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CheckpointError, match=r"cannot write .*: No space left on device"):
        fit(tiny_experiment(tmp_path, corpus_file, run__eval_every=100))
    assert [path.name for path in (tmp_path / "tiny" / "checkpoints").iterdir()] == ["step=00000004.ckpt"]
    assert fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last") == 0


@pytest.mark.parametrize(("then", "now"), [("adamw", "muon"), ("muon", "adamw")])
def test_another_optimizer_is_refused(tmp_path: Path, corpus_file: Path, then: str, now: str) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, optim__name=then, trainer__max_steps=4)) == 0
    with pytest.raises(ConfigError, match=f"optim.name={now} differs from {then}"):
        fit(tiny_experiment(tmp_path, corpus_file, optim__name=now), ckpt_path="last")
    assert fit(tiny_experiment(tmp_path, corpus_file, optim__name=then), ckpt_path="last") == 0


def test_a_setting_that_is_newer_than_the_checkpoint_is_no_change() -> None:
    def changes(then: str, now: str) -> Any:
        return config_changes(SimpleNamespace(yaml=now), SimpleNamespace(yaml=then))  # type: ignore[arg-type]

    assert changes("data: {corpus: a}", "data: {corpus: a, allow_lossy_tokenizer: false}") == {}
    assert changes("data: {corpus: a}", "data: {corpus: a, allow_lossy_tokenizer: true}") == {
        "data.allow_lossy_tokenizer": (False, True)
    }

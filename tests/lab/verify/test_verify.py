"""`minigpt verify`: what a run wrote comes out again to the last bit, and what does not is named."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.utilities import rank_zero_only
from training.tiny import assert_same_state

from minigpt.cli.main import main
from minigpt.runs.paths import step_name
from minigpt.training import module
from minigpt.training.loop import StepLoop

Fit = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, corpus_file: Path) -> Path:
    """12 steps with dropout and accumulation, validated every 5, saved every 4, by the command line."""
    return train(tmp_path, corpus_file)


def train(root: Path, corpus: Path, *more: str) -> Path:
    words = ["model.block_size=16", "model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.dropout=0.3"]
    words += ["data.tokenizer=byte", f"data.corpus={corpus}", "data.batch_size=4", "trainer.accumulate_grad_batches=2"]
    words += ["trainer.max_steps=12", "trainer.accelerator=cpu", "run.eval_every=5", "run.save_every=4"]
    words += ["run.log_every=2", "run.sample_every=6", f"run.root={root}", "run.name=r", *more]
    assert main(["fit", *(f"--{word}" for word in words)]) == 0
    return root / "r"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("step", [None, "8", "4"])
def test_run_is_identical_and_not_touched(run: Path, step: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    capsys.readouterr()
    assert main(["verify", str(run), *(["--step", step] if step else [])]) == 0
    said = capsys.readouterr().out
    assert f"verdict    identical: step {step or 12} came out the same to the last bit" in said
    assert ("from the beginning to step 4" in said) == (step == "4")
    assert "this environment" not in said
    assert contents(run) == before


def test_rank_variable_that_was_left_behind_changes_nothing(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    capsys.readouterr()
    assert main(["verify", str(run)]) == 0
    assert "verdict    identical" in capsys.readouterr().out


def test_resumed_run_with_other_settings_is_identical(run: Path, corpus_file: Path) -> None:
    """The segment is retrained by the config of its own time, and the best loss so far is known to it."""
    train(run.parent, corpus_file, "trainer.max_steps=20", "optim.lr=1e-4", "optim.min_lr=1e-5", "ckpt_path=last")
    assert main(["verify", str(run)]) == 0
    assert main(["verify", str(run), "--step", "16"]) == 0


def edit(path: Path, change: Callable[[dict], None]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_one_changed_bit_of_a_weight_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Changed before it was saved, so that the file's checksum is right: only the training can tell."""

    def change(content: dict) -> None:
        bits = content["state_dict"]["gpt.blocks.0.feedforward.up.weight"].view(torch.int32)
        bits[3, 5] ^= 1

    edit(run / "checkpoints" / step_name(12), change)
    capsys.readouterr()
    assert main(["verify", str(run)]) == 1
    said = capsys.readouterr().out
    assert "verdict    different" in said
    assert "gpt.blocks.0.feedforward.up.weight: 1 of 1,024 values, by" in said
    assert "optimizer_states" not in said
    assert "what differs is not in its provenance" in said


def test_other_dropout_is_found_at_its_first_step(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(content: dict) -> None:
        text = content["minigpt"]["yaml"]
        assert "seed_everything: 1337" in text
        content["minigpt"]["yaml"] = text.replace("seed_everything: 1337", "seed_everything: 1338")

    edit(run / "checkpoints" / step_name(12), change)
    capsys.readouterr()
    assert main(["verify", str(run)]) == 1
    assert "curve: first at step 9: the loss was" in capsys.readouterr().out


def test_another_world_is_told(
    run: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import minigpt.training.run as module

    def elsewhere(command: object) -> dict:
        world = json.loads(json.dumps(real(command)))
        world["versions"]["torch"] = "9.9"
        world["machine"]["threads"] = 64
        return world

    real = module.describe
    monkeypatch.setattr(module, "describe", elsewhere)
    corpus_file_content = corpus_file.read_text()
    try:
        corpus_file.write_text(corpus_file_content.replace("make", "take"))
        assert main(["verify", str(run)]) == 1
    finally:
        corpus_file.write_text(corpus_file_content)
    said = capsys.readouterr().out
    assert "this environment is not that of the run" in said
    for name in ("versions.torch", "machine.threads: ", "data: "):
        assert f"  {name}" in said


def test_names_of_one_world_alone_are_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(content: dict) -> None:
        provenance = content["minigpt"]["provenance"]
        assert provenance["device"] == {"type": "cpu", "count": 1, "strategy": "SingleDeviceStrategy"}
        assert provenance["arithmetic"]["deterministic"] is False
        provenance["precision"] = "bf16-mixed"
        provenance["arithmetic"]["deterministic"] = True
        provenance["machine"]["accelerators"] = 8
        del provenance["machine"]["threads"]

    edit(run / "checkpoints" / step_name(12), change)
    capsys.readouterr()
    assert main(["verify", str(run)]) == 0
    said = capsys.readouterr().out
    assert "  precision: bf16-mixed then, 32-true now" in said
    assert "  arithmetic.deterministic: True then, False now" in said
    assert "  machine.accelerators: 8 then, not recorded now" in said
    assert "  machine.threads: not recorded then, " in said


THEIRS = """
import torch
from pathlib import Path
from lightning.pytorch import Callback

class Nudge(Callback):  # what a callback does to the training must be done again
    def on_train_batch_end(self, trainer, pl_module, *_):
        with torch.no_grad():
            pl_module.gpt.token_embedding.weight.mul_(0.999)

class Append(Nudge):
    def __init__(self, path: str):
        self.path = Path(path)
    def on_train_batch_end(self, trainer, *_):
        with self.path.open("a") as file:
            file.write(f"{trainer.global_step}\\n")

class Save(Append):
    def on_train_batch_end(self, trainer, *_):
        torch.save(trainer.global_step, str(self.path))

class Folder(Append):
    def on_train_batch_end(self, trainer, *_):
        self.path.mkdir(exist_ok=True)

class Note(Nudge):  # beside the curves: in verify's own folder, then
    def on_train_batch_end(self, trainer, *_):
        Path(trainer.logger.log_dir, "notes.txt").write_text(str(trainer.global_step))

class Make(Callback):
    def __init__(self, path: str):
        Path(path).write_text("made")
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "their_callbacks.py").write_text(THEIRS.replace("\\\\", "\\"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return "trainer.callbacks+=their_callbacks"


@pytest.mark.parametrize("name", ["Nudge", "Note"])
def test_callbacks_of_the_config_run_again(tmp_path: Path, corpus_file: Path, theirs: str, name: str) -> None:
    run = train(tmp_path, corpus_file, f"{theirs}.{name}")
    before = contents(tmp_path)
    assert main(["verify", str(run), "--build_classes"]) == 0
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["Append", "Save", "Folder", "Make"])
def test_callbacks_that_write_elsewhere_are_named_and_left_out(
    tmp_path: Path, corpus_file: Path, theirs: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "elsewhere.txt"
    run = train(tmp_path, corpus_file, f"{theirs}.{name}", f"trainer.callbacks.init_args.path={path}")
    before = contents(tmp_path)
    capsys.readouterr()
    assert main(["verify", str(run), "--build_classes", "--leave_out", name]) == 0
    assert contents(tmp_path) == before
    assert "run again" not in capsys.readouterr().out
    assert main(["verify", str(run), "--build_classes"]) == 0
    said = capsys.readouterr().out
    assert f"callbacks  {name} run again and write what they wrote: --leave_out CLASS skips one" in said
    assert contents(run) == {path.removeprefix("r/"): data for path, data in before.items() if path.startswith("r/")}
    assert main(["verify", str(run), "--build_classes", "--leave_out", name + "s"]) == 2
    assert f"callbacks {name}, did you mean {name}?" in capsys.readouterr().err.replace("their_callbacks.", "")


def test_saving_callbacks_and_the_clock_are_left_out(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of time that has passed must not cut the retrained segment short."""
    words = ["trainer.callbacks+=ModelCheckpoint", f"trainer.callbacks.init_args.dirpath={tmp_path / 'theirs'}"]
    words += ["trainer.callbacks.init_args.every_n_train_steps=3", "trainer.max_time=00:10:00:00"]
    words += ["trainer.profiler=simple"]
    run = train(tmp_path, corpus_file, *words)

    def change(content: dict) -> None:
        content["callbacks"]["Timer"]["time_elapsed"]["train"] = 1e9

    edit(run / "checkpoints" / step_name(8), change)
    before = contents(tmp_path)
    assert [path.name for path in (tmp_path / "theirs").iterdir()] != []
    capsys.readouterr()
    assert main(["verify", str(run), "--build_classes"]) == 0
    said = capsys.readouterr()
    assert "verdict    identical" in said.out
    assert said.err == ""
    assert contents(tmp_path) == before


def test_flipped_bit_names_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (step_name(4), step_name(8), step_name(12), "best.ckpt"):
        path = run / "checkpoints" / name
        good = path.read_bytes()
        damaged = bytearray(good)
        damaged[len(damaged) // 3] ^= 16
        path.unlink()  # the best one may be a second name of the file of its step
        path.write_bytes(damaged)
        assert main(["verify", str(run)]) == 1
        error = capsys.readouterr().err
        assert error == f"minigpt: error: {path} is damaged: its bytes do not have the sha256 they were written with\n"
        path.write_bytes(good)


def test_what_cannot_be_verified_is_one_line(
    run: Path, tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = train(tmp_path / "branch", corpus_file, f"ckpt_path={run}", "trainer.max_steps=14", "run.save_every=100")
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    newest = run / "checkpoints" / step_name(12)
    for words, reason, code in [
        ([str(run), "--step", "7"], "has no checkpoint of step 7: there are step=00000004.ckpt, ", 1),
        ([str(one)], "has a single checkpoint: two are needed", 1),
        ([str(tmp_path / "empty")], "holds no checkpoint", 1),
        ([str(newest)], "is a file: verify takes a run's folder", 2),
        ([str(run.parent / "rr")], "no run or checkpoint at", 1),
    ]:
        assert main(["verify", *words]) == code
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1


STOP = """
from lightning.pytorch import Callback

class StopOnce(Callback):
    stops = True
    def __init__(self, batches: int):
        self.batches = batches
    def on_train_batch_end(self, trainer, *_):
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if StopOnce.stops and done == self.batches:
            StopOnce.stops = False
            trainer.should_stop = True
"""


def stopped_and_resumed(tmp_path: Path, corpus: Path, batches: int) -> Path:
    """Saved every 4 of 12 steps, but stopped once so many batches are done, and resumed by the same command."""
    (tmp_path / "stop_once.py").write_text(STOP)
    words = ["trainer.callbacks+=stop_once.StopOnce", f"trainer.callbacks.init_args.batches={batches}"]
    words += ["run.keep=0", "run.log_every=1"]
    train(tmp_path, corpus, *words)
    return train(tmp_path, corpus, *words, "ckpt_path=last")


@pytest.fixture
def stop_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stop_once", raising=False)


@pytest.mark.usefixtures("stop_once")
@pytest.mark.parametrize(("batches", "begin"), [(17, "step 8"), (5, "the beginning")])
def test_straight_over_a_resume_is_identical(
    tmp_path: Path, corpus_file: Path, batches: int, begin: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped_and_resumed(tmp_path, corpus_file, batches)
    border = -(-batches // 2)
    capsys.readouterr()
    step = min(12, -(-(border + 1) // 4) * 4)
    assert main(["verify", str(run), "--build_classes", "--step", str(step)]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert f"from {begin} straight over the resume at step {border} to step {step}, retraining" in said
    assert "not covered" not in said


def old_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count batches where steps are meant, as older versions did: a stop and a resume come amid an accumulation."""
    monkeypatch.setattr(StepLoop, "pending", 0)
    monkeypatch.setattr(StepLoop, "on_load_checkpoint", lambda *_: None)
    monkeypatch.setattr(StepLoop, "state_dict", _TrainingEpochLoop.state_dict)
    monkeypatch.setattr(module, "rewind", lambda *_: None)


@pytest.mark.usefixtures("stop_once")
@pytest.mark.parametrize("again", [True, False])
def test_wrong_first_step_after_a_resume_is_named(
    tmp_path: Path, corpus_file: Path, again: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the version that verifies has the same fault, so that a resume comes out the same."""
    with monkeypatch.context() as patch:
        old_loop(patch)
        run = stopped_and_resumed(tmp_path, corpus_file, 19)
    assert torch.load(run / "checkpoints" / step_name(9), weights_only=True)["TokenDataModule"]["batches"] == 19
    if again:
        old_loop(monkeypatch)
    capsys.readouterr()
    assert main(["verify", str(run), "--build_classes"]) == 1
    said = capsys.readouterr().out
    assert "from step 8 straight over the resume at step 9 to step 12" in said
    assert "curve: first at step 10: the loss was" in said


def test_first_step_after_another_accumulation_is_counted(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No training goes straight over it; the windows tell."""
    for faulty in (False, True):
        if faulty:
            old_loop(monkeypatch)
        words = ["data.batch_size=8", "trainer.accumulate_grad_batches=1", "trainer.max_steps=3"]
        run = train(tmp_path / str(faulty), corpus_file, *words)
        train(tmp_path / str(faulty), corpus_file, "trainer.max_steps=4", "ckpt_path=last")
        capsys.readouterr()
        assert main(["verify", str(run)]) == int(faulty)
        said = capsys.readouterr().out
        assert "the first step after the resume at step 3 is not covered: settings changed there (" in said
        read = "curve: first at step 4: the step after a resume read 4 windows, a whole step reads 8"
        assert (read in said) == faulty


@pytest.mark.usefixtures("stop_once")
def test_checkpoint_amid_an_accumulation_goes_on_from_its_whole_step(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of an older version: the batches that its weights never learnt from are read again."""
    words = ["trainer.callbacks+=stop_once.StopOnce", "trainer.callbacks.init_args.batches=19"]
    (tmp_path / "stop_once.py").write_text(STOP)
    with monkeypatch.context() as patch:
        old_loop(patch)
        train(tmp_path, corpus_file, *words)
    run = train(tmp_path, corpus_file, *words, "ckpt_path=last")
    straight = train(tmp_path / "straight", corpus_file)
    newest = [torch.load(each / "checkpoints" / step_name(12), weights_only=True) for each in (run, straight)]
    assert_same_state(*newest)
    assert newest[0]["TokenDataModule"] == newest[1]["TokenDataModule"]

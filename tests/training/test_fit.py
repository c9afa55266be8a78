"""A run from its config to its last checkpoint: cadence, files, curves, and what it says."""

import json
import math
import multiprocessing
import os
import shlex
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.strategies import DDPStrategy

from minigpt.api import load
from minigpt.data.bpe import train_bpe
from minigpt.data.prepare import prepare_cached
from minigpt.data.prepared import Prepared
from minigpt.data.protocol import with_special_tokens
from minigpt.data.special_tokens import SpecialTokens
from minigpt.data.tokenizers import ByteTokenizer
from minigpt.errors import CheckpointError, ConfigError, DataError, TrainingError
from minigpt.evaluate.loss import evaluate
from minigpt.interop.foreign import ForeignModel, write_foreign
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.runs.checkpoint import build_model, last_checkpoint, read_checkpoint
from minigpt.runs.metrics_csv import read_metrics
from minigpt.training.fit import fit

from .tiny import MODEL, assert_same_state, checkpoint, curve, tiny_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_file: Path) -> Path:
    """The folder of a finished run."""
    root = tmp_path_factory.mktemp("runs")
    assert fit(tiny_experiment(root, corpus_file, run__sample_every=6), command=["minigpt", "fit"]) == 0
    return root / "tiny"


def test_validations_are_due_at_their_steps_and_at_the_last(run: Path) -> None:
    assert [step for step, row in read_metrics(run / "metrics.csv").items() if "val/loss" in row] == [5, 10, 12]


def test_checkpoints_newest_and_best_are_kept(run: Path) -> None:
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["best.ckpt", "step=00000004.ckpt", "step=00000008.ckpt", "step=00000012.ckpt"]
    assert last_checkpoint(run) == run / "checkpoints" / "step=00000012.ckpt"


def test_best_is_the_lowest_validation_loss(run: Path) -> None:
    losses = {step: row["val/loss"] for step, row in read_metrics(run / "metrics.csv").items() if "val/loss" in row}
    best = read_checkpoint(run / "checkpoints" / "best.ckpt")
    assert best.val_loss == min(losses.values())
    assert best.step == min(losses, key=lambda step: losses[step])


def test_tensorboard_stands_at_the_same_steps_as_the_csv(run: Path) -> None:
    rows = read_metrics(run / "metrics.csv")
    for tag in (
        "train/loss",
        "val/loss",
        "val/perplexity",
        "val/bits_per_byte",
        "train/learning_rate",
        "train/grad_norm",
        "train/ms_per_step",
        "train/mfu",
    ):
        points = curve(run, tag)
        assert points == [(step, pytest.approx(row[tag], rel=1e-6)) for step, row in rows.items() if tag in row]
    assert [step for step, _ in curve(run, "train/loss")] == [2, 4, 6, 8, 10, 12]


def test_tensorboard_has_texts_and_the_outcome(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()
    assert {"config/text_summary", "sample/text_summary"} <= set(tags["tensors"])
    assert [event.step for event in events.Tensors("sample/text_summary")] == [6, 12]
    plugins = events.summary_metadata["_hparams_/experiment"].plugin_data
    assert b"val/loss" in plugins.content
    assert b"optim.weight_decay" in plugins.content
    assert len(list(run.glob("events.*"))) == 1


def test_learning_rate_is_that_of_the_step(run: Path) -> None:
    rows = read_metrics(run / "metrics.csv")
    # the update that completes step s is number s - 1: warm-up 1/3, 2/3, 3/3 of the peak
    assert rows[2]["train/learning_rate"] == pytest.approx(1e-2 * 2 / 3)
    assert rows[4]["train/learning_rate"] == pytest.approx(1e-2)


def test_run_folder_says_what_it_is(run: Path) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    session = provenance["sessions"][0]
    assert session["command"] == "minigpt fit"
    assert session["versions"]["torch"] == torch.__version__
    assert session["data_fingerprint"]
    loaded = read_checkpoint(run / "checkpoints" / "step=00000012.ckpt")
    assert session["texts"] == loaded.texts
    assert all(len(text) == 64 for text in session["texts"].values())
    assert session["loses"] == ""
    assert (run / "config.yaml").read_text() == "run: {name: tiny}\noptim: {name: adamw}\n"
    assert (run / "tokenizer.json").exists()
    assert not list(run.rglob("*.tmp-*"))


def test_checkpoint_is_self_contained(run: Path) -> None:
    loaded = read_checkpoint(run / "checkpoints" / "step=00000012.ckpt")
    assert loaded.step == 12
    assert loaded.tokenizer.kind == "byte"
    assert loaded.config.n_embd == 16
    assert loaded.data["tokenizer"] == "byte"


def test_validation_loss_is_the_exact_one(tmp_path: Path, corpus_file: Path) -> None:
    """With enough batches, the loss of `fit` is the one that `minigpt validate` measures, last partial window aside."""
    experiment = tiny_experiment(tmp_path, corpus_file, run__eval_batches=1000, run__eval_every=12)
    assert fit(experiment) == 0
    loaded = read_checkpoint(tmp_path / "tiny" / "checkpoints" / "step=00000012.ckpt")
    prepared = prepare_cached(experiment.data.prepare_options())
    whole = prepared.val.shards[0][: (len(prepared.val.shards[0]) - 1) // 16 * 16 + 1]
    exact = evaluate(build_model(loaded), [whole], prepared.tokenizer.token_bytes(), batch_size=4)
    assert loaded.val_loss == pytest.approx(exact.loss, rel=1e-6)
    row = read_metrics(tmp_path / "tiny" / "metrics.csv")[12]
    assert row["val/bits_per_byte"] == pytest.approx(exact.bits_per_byte, rel=1e-6)
    assert row["val/perplexity"] == pytest.approx(exact.perplexity, rel=1e-5)


def test_a_lossy_tokenizer_is_refused_or_says_what_it_loses_and_bits_are_those_of_the_text(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = json.loads(train_bpe([corpus_file.read_text()], 300).to_json())
    fields["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": ""}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    data = {"data__tokenizer": str(tmp_path / "tokenizer.json"), "data__vocab_size": 1024}
    with pytest.raises(DataError, match="does not give the text of"):
        fit(tiny_experiment(tmp_path, corpus_file, **data))
    assert not (tmp_path / "tiny").exists()
    insisting = tiny_experiment(
        tmp_path, corpus_file, **data, data__allow_lossy_tokenizer=True, run__eval_batches=1000, trainer__max_steps=12
    )
    assert fit(insisting) == 0
    assert "the tokenizer loses" in capsys.readouterr().out
    [session] = json.loads((tmp_path / "tiny" / "provenance.json").read_text())["sessions"]
    assert "% of the bytes" in session["loses"]
    prepared = prepare_cached(insisting.data.prepare_options())
    row = read_metrics(tmp_path / "tiny" / "metrics.csv")[12]
    nats_per_byte = row["val/loss"] * prepared.val.n_tokens / prepared.val.n_bytes
    assert row["val/bits_per_byte"] == pytest.approx(nats_per_byte / math.log(2), rel=0.02)  # the last window aside


def test_the_model_learns(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=150, run__eval_every=150)) == 0
    rows = read_metrics(tmp_path / "tiny" / "metrics.csv")
    assert rows[2]["train/loss"] == pytest.approx(5.5, abs=0.15)  # ln 257
    assert rows[150]["val/loss"] < 3.0


def test_same_config_same_bits(run: Path, tmp_path: Path, corpus_file: Path) -> None:
    """Looking more often, logging more often, sampling or loading with workers changes no bit of the weights."""
    experiment = tiny_experiment(
        tmp_path,
        corpus_file,
        run__eval_every=1,
        run__log_every=1,
        run__save_every=3,
        run__sample_every=0,
        data__num_workers=2,
    )
    assert fit(experiment) == 0
    assert_same_state(checkpoint(run, 12), checkpoint(tmp_path / "tiny", 12))


@pytest.mark.parametrize("place", ["on_validation_batch_start", "on_validation_batch_end", "on_before_optimizer_step"])
def test_no_worker_outlives_an_error(place: str, tmp_path: Path, corpus_file: Path) -> None:
    """Workers ignore SIGTERM, which is how Python ends those that are left, to wait for them without end."""
    before = multiprocessing.active_children()

    class Fault(pl.Callback):
        pass

    def fail(*_: object) -> None:
        raise LookupError("raised on purpose")

    setattr(Fault, place, fail)
    experiment = tiny_experiment(tmp_path, corpus_file, data__num_workers=2, trainer__callbacks=[Fault()])
    with pytest.raises(LookupError) as error:
        fit(experiment)
    assert error.traceback, "it holds all that was alive, as it does while Python ends itself"
    assert multiprocessing.active_children() == before


def test_another_seed_other_bits(run: Path, tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, seed_everything=4)) == 0
    with pytest.raises(AssertionError):
        assert_same_state(checkpoint(run, 12), checkpoint(tmp_path / "tiny", 12))


def test_accumulation_counts_steps_and_equals_the_large_batch(tmp_path: Path, corpus_file: Path) -> None:
    whole = tiny_experiment(tmp_path / "whole", corpus_file, model__dropout=0.0, data__batch_size=8)
    parts = tiny_experiment(
        tmp_path / "parts", corpus_file, model__dropout=0.0, data__batch_size=2, trainer__accumulate_grad_batches=4
    )
    for experiment in (whole, parts):
        assert fit(experiment) == 0
    one, other = (checkpoint(tmp_path / name / "tiny", 12) for name in ("whole", "parts"))
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(weight, other["state_dict"][name], rtol=1e-3, atol=1e-4)
    rows = read_metrics(tmp_path / "parts" / "tiny" / "metrics.csv")
    assert [step for step, row in rows.items() if "val/loss" in row] == [5, 10, 12]


def test_next_run_takes_the_next_folder(run: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.rglob("*"))
    assert fit(tiny_experiment(run.parent, corpus_file, trainer__max_steps=1)) == 0
    assert (run.parent / "tiny-2" / "config.yaml").exists()
    assert "this one is" in capsys.readouterr().out
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.rglob("*")) == before


def test_what_a_run_says(tmp_path: Path, corpus_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A table, a line a validation, a sample, the commands to go on with; and nothing of Lightning's."""
    assert fit(tiny_experiment(tmp_path, corpus_file, run__sample_every=12)) == 0
    captured = capfd.readouterr()
    for word in (
        "parameters",
        "tokens to train on",
        " epochs",
        "step  5/12",
        "val ",
        "tokens/s",
        "a sample",
    ):
        assert word in captured.out
    assert f"minigpt generate {tmp_path / 'tiny'} --prompt 'def '" in captured.out
    for noise in ("GPU available", "Trainer.fit", "litlogger", "Warning", "rank_zero", "💡"):
        assert noise not in captured.out + captured.err


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model__block_size": 5000}, DataError, "data.corpus=.* has .* tokens, and one window takes 5001"),
        ({"data__corpus": "/nowhere/at/all.txt"}, DataError, "/nowhere/at/all.txt"),
        ({"trainer__max_steps": 0}, ConfigError, "trainer.max_steps=0 must be at least 1"),
        ({"run__root": "/proc/none"}, ConfigError, "run.root"),
        ({"trainer__accumulate_grad_batches": 0}, ConfigError, "trainer.accumulate_grad_batches=0 must be at least 1"),
        ({"trainer__gradient_clip_val": -1.0}, ConfigError, "trainer.gradient_clip_val=-1.0 must not be negative"),
        ({"seed_everything": -1}, ConfigError, "seed_everything=-1 must lie between 0 and"),
        ({"seed_everything": 2**32}, ConfigError, "seed_everything=4294967296 must lie between 0 and"),
        (
            {"data__tokenizer": "char", "run__sample_every": 1, "run__sample_prompt": "Ж"},
            ConfigError,
            "run.sample_prompt='Ж': .*'Ж'",
        ),
        ({"trainer__accelerator": "gpux"}, ConfigError, "trainer.accelerator=gpux cannot be .* did you mean gpu"),
        ({"trainer__accelerator": "tpu"}, ConfigError, "trainer.accelerator=tpu cannot be used here: auto, cpu"),
        ({"trainer__accelerator": "hpu"}, ConfigError, "trainer.accelerator=hpu cannot be used here: auto, cpu"),
        ({"trainer__accelerator": "mps"}, ConfigError, "trainer.accelerator=mps cannot be used here: [a-z, ]* can$"),
        ({"trainer__max_time": "00:00:00:00"}, ConfigError, "trainer.max_time=00:00:00:00 must be more than no time"),
        ({"trainer__max_time": {"seconds": -1}}, ConfigError, "trainer.max_time=.* must be more than no time"),
        ({"trainer__strategy": "xla"}, ConfigError, "trainer: .*torch_xla"),
        ({"trainer__strategy": "deepspeed"}, ConfigError, "trainer: .*DeepSpeed"),
        ({"trainer__strategy": "ddp_spawn"}, ConfigError, "trainer.strategy=ddp_spawn copies .*: use ddp"),
        ({"trainer__strategy": "ddp_fork_find_unused_parameters_true"}, ConfigError, "trainer.strategy=ddp_fork_find"),
        (
            {"trainer__strategy": DDPStrategy(start_method="spawn")},
            ConfigError,
            "trainer.strategy would copy a program",
        ),
        ({"trainer__precision": "transformer-engine"}, ConfigError, "trainer.precision=transformer-engine must be one"),
        ({"trainer__precision": "16-true"}, ConfigError, "trainer.precision=16-true .*: 16-mixed scales the loss"),
        (
            {"trainer__precision": None, "trainer__plugins": HalfPrecision("16-true")},
            ConfigError,
            "trainer.precision=16-true .*: 16-mixed scales the loss",
        ),
        ({"trainer__barebones": True}, ConfigError, "trainer.barebones=true would take the curves"),
        ({"trainer__profiler": "xla"}, ConfigError, "trainer: .*torch_xla"),
        ({"trainer__devices": 0}, ConfigError, "trainer: .*devices=0"),
        ({"trainer__devices": "many"}, ConfigError, "trainer: `devices`"),
        ({"trainer__precision": "7-bit"}, ConfigError, "trainer.precision=7-bit must be one of"),
        ({"data__batch_size": 3, "trainer__devices": 2}, ConfigError, "data.batch_size=3 must be divisible by"),
    ],
)
def test_mistakes_leave_no_folder(
    tmp_path: Path, corpus_file: Path, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(tiny_experiment(tmp_path, corpus_file, **changes))
    assert not (tmp_path / "tiny").exists()


class Fault(pl.Callback):
    """Fail in one of the hooks."""

    def __init__(self, hook: str, error: BaseException | None = None) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error or LookupError("raised on purpose")

        setattr(self, hook, fail)


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_start", "on_train_batch_start"])
@pytest.mark.parametrize("error", [LookupError("on purpose"), SystemExit(3)])
def test_failure_before_the_first_step_leaves_no_folder(
    tmp_path: Path, corpus_file: Path, hook: str, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[Fault(hook, error)]))
    assert list(tmp_path.iterdir()) == []


def test_failure_before_the_first_step_keeps_what_is_not_the_runs(tmp_path: Path, corpus_file: Path) -> None:
    class Write(pl.Callback):
        def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
            (tmp_path / "tiny" / "notes.txt").write_text("precious")

    callbacks = [Write(), Fault("on_train_start")]
    with pytest.raises(LookupError):
        fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=callbacks))
    assert (tmp_path / "tiny" / "notes.txt").exists()


def test_resume_that_fails_before_its_first_step_leaves_the_run_as_it_was(tmp_path: Path, corpus_file: Path) -> None:
    """Its config too, which a later resume may go by."""
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "tiny").glob("*") if path.suffix in {".yaml", ".json"}}
    changed = replace(
        tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[Fault("on_train_start")]),
        yaml="run: {name: tiny}\n#\n",
    )
    with pytest.raises(LookupError):
        fit(changed, ckpt_path="last")
    assert {path: path.read_bytes() for path in before} == before


def test_config_of_a_run_is_replaced_when_every_process_has_read_it(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that Lightning starts read it after the first one, and add `--trainer.callbacks+=` to what it says."""
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    config = tmp_path / "tiny" / "config.yaml"
    before, started = config.read_text(), []
    start = pl.strategies.SingleDeviceStrategy.setup_environment

    def start_processes(strategy: pl.strategies.SingleDeviceStrategy) -> None:
        started.append(config.read_text())
        start(strategy)

    monkeypatch.setattr(pl.strategies.SingleDeviceStrategy, "setup_environment", start_processes)
    changed = replace(tiny_experiment(tmp_path, corpus_file), yaml="run: {name: tiny}\n# changed\n")
    assert fit(changed, ckpt_path="last") == 0
    assert started == [before]
    assert config.read_text() == changed.yaml


def test_a_callback_may_change_the_working_folder(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Move(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert fit(tiny_experiment(Path("runs"), corpus_file, trainer__callbacks=[Move()])) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert last_checkpoint(tmp_path / "runs" / "tiny").name == "step=00000012.ckpt"
    assert curve(tmp_path / "runs" / "tiny", "val/loss")[-1][0] == 12
    assert "minigpt generate runs/tiny" in capsys.readouterr().out


@pytest.mark.parametrize("n_saved", [4, 8])
def test_a_run_that_another_process_has_gone_on_with_meanwhile_is_left_alone(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch, n_saved: int
) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0

    def other(*_: object) -> Prepared:
        if n_saved > 4:
            monkeypatch.undo()
            assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=n_saved), ckpt_path="last") == 0
        return prepare_cached(experiment.data.prepare_options())

    experiment = tiny_experiment(tmp_path, corpus_file, optim__lr=0.5)
    monkeypatch.setattr("minigpt.training.fit.prepare", other)
    if n_saved == 4:
        assert fit(experiment, ckpt_path="last") == 0
        return
    with pytest.raises(ConfigError, match="another process has trained in this folder meanwhile"):
        fit(experiment, ckpt_path="last")
    assert read_metrics(tmp_path / "tiny" / "metrics.csv")[8]["train/learning_rate"] == 0.01


def test_interrupt_while_another_process_has_the_lock(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    files = sorted((tmp_path / "tiny").rglob("*"))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("minigpt.training.run.FileLock.acquire", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last")
    assert sorted((tmp_path / "tiny").rglob("*")) == files


def test_damaged_provenance_is_one_line_and_stays(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    path = tmp_path / "tiny" / "provenance.json"
    path.write_text('{"sessions": [')
    with pytest.raises(CheckpointError, match=r"provenance\.json is damaged: "):
        fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last")
    assert path.read_text() == '{"sessions": ['


def test_float16_on_a_cpu_is_said_to_be_another(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__precision="16-mixed")) == 0
    assert "cpu, bf16-mixed (trainer.precision=16-mixed needs a GPU)" in capsys.readouterr().out
    assert not [warning for warning in recwarn if "AMP" in str(warning.message)]


def test_compiler_that_is_not_there_is_one_line(
    tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    try:
        with pytest.raises(
            ConfigError, match=r"run\.compile=true cannot compile here: .*No working C.. compiler"
        ) as error:
            fit(tiny_experiment(tmp_path, corpus_file, run__compile=True))
    finally:
        torch._dynamo.reset()
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_diverged_run_stops_at_its_step_and_keeps_the_good_checkpoint(tmp_path: Path, corpus_file: Path) -> None:
    experiment = tiny_experiment(
        tmp_path, corpus_file, optim__lr=1e30, optim__warmup_steps=0, trainer__gradient_clip_val=None, run__save_every=1
    )
    with pytest.raises(TrainingError, match=r"not finite .*(at|after) step \d+ .*optim.lr=1e\+30"):
        fit(experiment)
    for path in (tmp_path / "tiny" / "checkpoints").glob("*.ckpt"):
        assert all(torch.isfinite(weight).all() for weight in read_checkpoint(path).weights.values())


def test_gradient_that_is_not_finite_stops_the_run_at_its_step(tmp_path: Path, corpus_file: Path) -> None:
    """Before the weights that it spoils are sampled, validated or saved."""

    class Spoil(pl.Callback):
        def on_before_optimizer_step(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: object
        ) -> None:
            if trainer.global_step == 4:
                next(iter(pl_module.parameters())).grad.fill_(float("nan"))

    spoilt = tiny_experiment(
        tmp_path, corpus_file, trainer__callbacks=[Spoil()], run__save_every=1, run__sample_every=1
    )
    with pytest.raises(TrainingError, match=r"not finite .* at step 5 "):
        fit(spoilt)
    assert last_checkpoint(tmp_path / "tiny").name == "step=00000004.ckpt"


def test_second_process_in_the_folder_is_told(tmp_path: Path, corpus_file: Path) -> None:
    from filelock import FileLock

    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=4)) == 0
    metrics = tmp_path / "tiny" / "metrics.csv"
    with metrics.open("a") as file:  # the other process is beyond its last checkpoint
        file.write(metrics.read_text().splitlines()[-1].replace("4,", "6,", 1) + "\n")
    before = metrics.read_text()
    with (
        FileLock(tmp_path / "tiny" / ".lock"),
        pytest.raises(ConfigError, match="another process is training in this folder"),
    ):
        fit(tiny_experiment(tmp_path, corpus_file), ckpt_path="last")
    assert metrics.read_text() == before


def test_sample_command_can_be_pasted(tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = "it's\n$HOME "
    name = "two words"
    experiment = tiny_experiment(tmp_path, corpus_file, run__sample_prompt=prompt, run__name=name, trainer__max_steps=1)
    assert fit(experiment) == 0
    command = capsys.readouterr().out.split("sample   ")[1].split("\nmeasure")[0]
    assert shlex.split(command) == ["minigpt", "generate", str(tmp_path / name), "--prompt", prompt]


def test_users_own_callbacks_and_loggers_join(tmp_path: Path, corpus_file: Path) -> None:
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.loggers import CSVLogger

    stopping = EarlyStopping(monitor="val_loss", patience=1, min_delta=100.0, verbose=False)
    logger = CSVLogger(tmp_path / "csv")
    experiment = tiny_experiment(
        tmp_path, corpus_file, trainer__callbacks=[stopping], trainer__logger=logger, trainer__max_steps=50
    )
    assert fit(experiment) == 0
    assert read_checkpoint(last_checkpoint(tmp_path / "tiny")).step == 10  # the second validation was no better by 100
    assert (Path(logger.log_dir) / "metrics.csv").exists()


def test_without_loggers(tmp_path: Path, corpus_file: Path) -> None:
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__logger=False)) == 0
    assert not (tmp_path / "tiny" / "metrics.csv").exists()
    assert last_checkpoint(tmp_path / "tiny") is not None


def test_training_goes_on_with_the_special_tokens_of_an_imported_model(tmp_path: Path, corpus_file: Path) -> None:
    special = SpecialTokens(bos=1, stop=(2, 3), before=(1,), files={"generation_config.json": {"eos_token_id": [2, 3]}})
    tokenizer = with_special_tokens(ByteTokenizer(), special)
    config = GPTConfig(vocab_size=tokenizer.vocab_size, **MODEL)
    origin = {"source": "elsewhere"}
    foreign = ForeignModel(config=config, weights=GPT(config).state_dict(), tokenizer=tokenizer, origin=origin)
    write_foreign(foreign, tmp_path / "a.ckpt", "test")
    changes = {"run__init_from": str(tmp_path / "a.ckpt"), "trainer__max_steps": 1}
    assert fit(tiny_experiment(tmp_path, corpus_file, **changes)) == 0
    changes = {"run__name": "tiny", "trainer__max_steps": 2}
    assert fit(tiny_experiment(tmp_path, corpus_file, **changes), ckpt_path="last") == 0
    assert load(tmp_path / "tiny", prefer="last").tokenizer.special == special

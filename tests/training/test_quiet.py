"""What Lightning says: known lines are left out one by one, and what the config asked for is shown exactly once."""

import io
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelSummary, Timer
from lightning.pytorch.utilities import rank_zero_info

from minigpt.training.fit import fit
from minigpt.training.quiet import quiet

from .tiny import tiny_experiment


class Stop(pl.Callback):
    """A SIGTERM in step 6."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "simple": ({"trainer__profiler": "simple"}, "FIT Profiler Report"),
    "advanced": ({"trainer__profiler": "advanced"}, "FIT Profiler Report"),
    "stopped": ({"trainer__profiler": "simple", "trainer__callbacks": [Stop()]}, "FIT Profiler Report"),
    "summary": ({"trainer__enable_model_summary": True}, "Total params"),
    "summary callback": ({"trainer__callbacks": [ModelSummary()]}, "Total params"),
    "early stopping": (
        {"trainer__max_steps": 5, "trainer__callbacks": [EarlyStopping("val_loss", verbose=True)]},
        "Metric val_loss improved. New best score",
    ),
    "timer": ({"trainer__callbacks": [Timer(timedelta(microseconds=1))]}, "Time limit reached. Elapsed time is"),
}


@pytest.mark.parametrize(
    "case", [*((name, "no log") for name in SAID), ("simple", "terminal"), ("simple", "file")], ids=" ".join
)
def test_what_the_config_asks_for_is_shown_once(
    tmp_path: Path,
    corpus_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: tuple[str, str],
) -> None:
    """Also where the program has a log of its own, on the terminal or in a file."""
    name, log = case
    file = io.StringIO()
    handlers = {"no log": [], "terminal": [logging.StreamHandler(sys.stderr)], "file": [logging.StreamHandler(file)]}
    monkeypatch.setattr(logging.getLogger(), "handlers", handlers[log])
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", log != "no log")
    changes, words = SAID[name]
    fit(tiny_experiment(tmp_path, corpus_file, **changes))
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count(words) == 1
    assert file.getvalue().count(words) == (log == "file")


@pytest.mark.parametrize("propagate", [True, False])
def test_known_lines_are_silent_and_others_are_not(
    tmp_path: Path,
    corpus_file: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    propagate: bool,
) -> None:
    class Say(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            rank_zero_info("a line of a library on top of Lightning [with brackets]")

    changes = {"trainer__precision": "bf16-mixed", "trainer__max_steps": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("lightning.pytorch"), "propagate", propagate)
        assert fit(tiny_experiment(tmp_path, corpus_file, **changes, trainer__callbacks=[Say()])) == 0
        changes["trainer__max_steps"] = 6
        assert fit(tiny_experiment(tmp_path, corpus_file, **changes), ckpt_path="last") == 0
    captured = capsys.readouterr()
    assert captured.out.count("a line of a library on top of Lightning [with brackets]") == 1
    for noise in ("available", "Precision (AMP)", "Restor", "`Trainer.fit` stopped", "Tip"):
        assert noise not in captured.out + captured.err + caplog.text


def test_loggers_are_left_as_they_were() -> None:
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    with quiet():
        pass
    assert [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers] == before


def test_level_that_the_program_chose_counts(
    tmp_path: Path, corpus_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        assert fit(tiny_experiment(tmp_path, corpus_file, trainer__profiler="simple")) == 0
    finally:
        logger.setLevel(before)
    assert "Profiler Report" not in capsys.readouterr().out


def test_lines_stand_above_the_bar(tmp_path: Path, corpus_file: Path) -> None:
    """On a terminal: each line of EarlyStopping begins where a line begins, and the bar is drawn anew below it."""
    words = [
        "fit", f"--run.root={tmp_path}", f"--data.corpus={corpus_file}", "--data.tokenizer=byte",
        "--model.n_layer=1", "--model.n_embd=16", "--model.n_head=2", "--model.block_size=16", "--data.batch_size=4",
        "--run.eval_every=4", "--run.sample_every=0", "--trainer.max_steps=8", "--trainer.accelerator=cpu",
        "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_loss",
        "--trainer.callbacks.verbose=true",
    ]  # fmt: skip
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "-m", "minigpt", *words], stdout=side, stderr=side, env=environment)
    os.close(side)
    said = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:
            break
        if not block:
            break
        said += block
    os.close(main)
    assert process.wait(timeout=100) == 0, said.decode()
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode()).replace("\r", "\n").split("\n")
    assert [line[:24] for line in lines if "Metric val_loss" in line] == ["Metric val_loss improved"] * 2

"""Between the steps: no empty hooks, no collector; and all as it was afterwards."""

import gc
import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.trainer import call

from minigpt.training.fit import fit
from minigpt.training.lean import STEP_HOOKS, garbage_on_demand, without_empty_hooks

from .tiny import tiny_experiment


class Watch(pl.Callback):
    """Counts the calls of two hooks, one of them put into the object, and looks at the collector."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.collecting: set[bool] = set()
        self.on_after_backward = lambda *_: self.seen.append("backward")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.seen.append("end")
        self.collecting.add(gc.isenabled())
        assert trainer.callbacks[0].on_before_zero_grad is None
        assert pl_module.on_before_zero_grad is None


def test_a_run_is_lean_and_leaves_everything_as_it_was(tmp_path: Path, corpus_file: Path) -> None:
    watch = Watch()
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=3, trainer__callbacks=[watch])) == 0
    assert watch.seen == ["backward", "end"] * 3
    assert watch.collecting == {False}
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
    assert callable(watch.on_before_zero_grad)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_put_back_after_an_error_too(enabled: bool) -> None:
    module, callback = pl.LightningModule(), pl.Callback()

    @without_empty_hooks([callback], module)
    @garbage_on_demand()
    def fail() -> None:
        assert not gc.isenabled()
        assert gc.get_freeze_count()
        assert {getattr(owner, hook) for owner in (module, callback) for hook in STEP_HOOKS} == {None}
        raise RuntimeError

    try:
        if not enabled:
            gc.disable()
        with pytest.raises(RuntimeError):
            fail()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert all(callable(getattr(owner, hook)) for owner in (module, callback) for hook in STEP_HOOKS)


def test_a_validation_collects(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: calls.append(1))
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=8, run__eval_every=4)) == 0
    assert len(calls) >= 3  # one at the start


def test_lightning_passes_over_what_cannot_be_called_and_calls_these_hooks() -> None:
    for function in (call._call_callback_hooks, call._call_lightning_module_hook):
        assert "if callable(fn)" in inspect.getsource(function).replace("not callable(fn)", "callable(fn)")
    for hook, source in {"on_before_zero_grad": _AutomaticOptimization, "on_after_backward": Precision}.items():
        assert f'"{hook}"' in inspect.getsource(source)


@pytest.mark.parametrize("panels", [(), ("attention", "calibration", "position")], ids=["no panels", "panels"])
def test_a_step_makes_no_garbage(tmp_path: Path, corpus_file: Path, panels: tuple[str, ...]) -> None:
    """Otherwise memory would grow until the next validation: by some megabytes with each of matplotlib's figures."""

    class Count(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
            if trainer.global_step == 4:
                gc.collect()
            if trainer.global_step == 14:
                gc.set_debug(gc.DEBUG_SAVEALL)
                gc.collect()
                gc.set_debug(0)
                self.found = list(gc.garbage)
                gc.garbage.clear()

    count = Count()
    changes = {"trainer__max_steps": 15, "run__eval_every": 15, "run__save_every": 15}
    changes |= {"run__panels": panels, "run__panel_every": 3}
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__callbacks=[count], **changes)) == 0
    assert not count.found

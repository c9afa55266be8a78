"""Between the steps: no empty hooks, no collector; and all as it was afterwards."""

import gc
import inspect
import weakref
from collections import Counter, deque
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.trainer import call

from minigpt.training.callbacks import overhead as lean
from minigpt.training.callbacks.overhead import (
    STEP_HOOKS,
    YOUNG_EVERY,
    GarbageCollector,
    garbage_on_demand,
    without_empty_hooks,
)
from minigpt.training.fit import fit
from training.tiny import tiny_experiment


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
        assert callable(pl_module.on_before_zero_grad)


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
    callback = pl.callbacks.Timer()

    @without_empty_hooks([callback])
    @garbage_on_demand()
    def fail() -> None:
        assert not gc.isenabled()
        assert gc.get_freeze_count()
        assert callback.on_after_backward is None
        raise RuntimeError

    try:
        if not enabled:
            gc.disable()
        with pytest.raises(RuntimeError):
            fail()
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert all(callable(getattr(callback, hook)) for hook in STEP_HOOKS)


def test_a_validation_collects(tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda *_: calls.append(1))
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


class Cycle:
    """Something that only the collector can take away."""

    alive = 0

    def __init__(self) -> None:
        self.itself = self
        Cycle.alive += 1
        weakref.finalize(self, Cycle.gone)

    @staticmethod
    def gone() -> None:
        Cycle.alive -= 1


class Leaves(pl.Callback):
    """Leaves a cycle a batch, each of which it holds for `lives` batches, and notes how many there are."""

    def __init__(self, lives: int) -> None:
        self.held: deque[Cycle] = deque(maxlen=lives)
        self.most = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.held.append(Cycle())
        self.most = max(self.most, Cycle.alive)


@pytest.mark.parametrize(("lives", "rare"), [(1, 1e9), (30, 0)], ids=["young", "old"])
def test_what_a_callback_leaves_is_collected_however_rare_a_validation(
    lives: int, rare: float, tmp_path: Path, corpus_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean, "_RARE", rare)
    leaves, steps = Leaves(lives), 6 * YOUNG_EVERY
    changes = {"run__eval_every": 6000, "run__save_every": 6000, "trainer__callbacks": [leaves]}
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=steps, **changes)) == 0
    assert lives < leaves.most <= lives + YOUNG_EVERY + 6  # one of each interval outlives a young collection


def test_everything_is_searched_for_a_thousandth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = [0.0], []

    def collect(generation: int = 2) -> None:
        calls.append((now[0], generation))
        now[0] += 2.0 * (generation == 2)

    monkeypatch.setattr(lean.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gc, "collect", collect)
    collector = GarbageCollector()
    for _ in range(5 * YOUNG_EVERY):
        collector.on_train_batch_end()
        now[0] += 1000 / YOUNG_EVERY
    assert [generation for _, generation in calls] == [2, 1, 2, 1, 2]
    assert calls[2][0] - calls[0][0] >= 2000


class Meddles(pl.Callback):
    """Does to hooks, profiler and module in the middle of training what callbacks do."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.callbacks.append(Appended(self.seen))
        pl_module.on_before_zero_grad = lambda *_: self.seen.update(["module's"])
        trainer.callbacks[0].on_after_backward = lambda *_: self.seen.update(["ours"])

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.seen["end"] += 1
        if trainer.global_step != 2:
            return
        gc.freeze()
        trainer.profiler = SimpleProfiler()
        for owner, name in ((pl_module, "module"), (self, "callback")):
            before = owner.on_after_backward

            def wrapped(*args: Any, before: Any = before, name: str = f"wrapped {name}") -> None:
                before(*args)
                self.seen[name] += 1

            owner.on_after_backward = wrapped
        type(self).on_before_backward = lambda *_: self.seen.update(["class"])
        pl_module.register_buffer("extra", torch.zeros(1))
        pl_module.extra = torch.ones(1)
        pl_module.weight = torch.nn.Parameter(torch.ones(2))
        norm, groups = pl_module.gpt.final_norm, trainer.optimizers[0].param_groups
        before, norm.weight = norm.weight, torch.nn.Parameter(norm.weight.detach().clone())
        for group in groups:
            group["params"] = [norm.weight if each is before else each for each in group["params"]]
        trainer.optimizers[0].state[norm.weight] = trainer.optimizers[0].state.pop(before)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.spans = dict(trainer.profiler.recorded_durations)
        self.norm = pl_module.grad_norms["final_norm.weight"]
        self.gradient = pl_module.gpt.final_norm.weight.grad
        self.module = pl_module


class Appended(pl.Callback):
    def __init__(self, seen: Counter[str]) -> None:
        self.seen = seen

    def on_before_zero_grad(self, *_: Any) -> None:
        self.seen["appended"] += 1


def test_hooks_profiler_and_parameters_may_change_while_training_goes_on(tmp_path: Path, corpus_file: Path) -> None:
    meddles = Meddles()
    try:
        changes = {"trainer__callbacks": [meddles], "trainer__gradient_clip_val": 1e-3}
        assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=6, **changes)) == 0
    finally:
        del Meddles.on_before_backward
    counts = {"end": 6, "appended": 6, "module's": 6, "ours": 6, "wrapped module": 4, "wrapped callback": 4, "class": 4}
    assert meddles.seen == counts
    assert len(meddles.spans["run_training_batch"]) == 4
    assert meddles.norm > 0
    assert callable(meddles.module.on_after_backward)
    assert dict(meddles.module.named_buffers())["extra"] == 1
    assert "weight" in dict(meddles.module.named_parameters())


def test_a_profiler_of_the_config_is_used(tmp_path: Path, corpus_file: Path) -> None:
    profiler = SimpleProfiler()
    assert fit(tiny_experiment(tmp_path, corpus_file, trainer__max_steps=3, trainer__profiler=profiler)) == 0
    assert len(profiler.recorded_durations["run_training_batch"]) == 3

"""A model that takes a step in a millisecond, and products that are no larger."""

from pathlib import Path
from typing import Any

import pytest

from minigpt.lab.bench.setting import Setting, make_setting
from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig
from minigpt.system import matmul
from minigpt.training.config import TRAINER_DEFAULTS, UNKNOWN_VOCAB_SIZE, DataConfig, Experiment, RunConfig


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "SIZES", {"cpu": (16,)})
    monkeypatch.setattr(matmul, "SECONDS", 0.001)


def experiment_of(corpus: Path, **changes: Any) -> Experiment:
    """A tiny one; `changes` are `group__key=value`."""
    groups: dict[str, dict[str, Any]] = {
        "run": {},
        "model": {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.1},
        "optim": {"warmup_steps": 3},
        "data": {"corpus": str(corpus), "tokenizer": "byte", "batch_size": 4},
        "trainer": {**TRAINER_DEFAULTS, "accelerator": "cpu", "devices": 1},
    }
    for name, value in changes.items():
        group, key = name.split("__")
        groups[group][key] = value
    return Experiment(
        seed_everything=3,
        run=RunConfig(**groups["run"]),
        model=GPTConfig(vocab_size=UNKNOWN_VOCAB_SIZE, **groups["model"]),
        optim=OptimConfig(**groups["optim"]),
        data=DataConfig(**groups["data"]),
        trainer=groups["trainer"],
        yaml="{}\n",
    )


@pytest.fixture
def setting(corpus_file: Path) -> Setting:
    return make_setting(experiment_of(corpus_file))

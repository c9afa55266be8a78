"""A run of a few seconds: a small model on a small text."""

from pathlib import Path
from typing import Any

import torch

from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig
from minigpt.training.config import TRAINER_DEFAULTS, UNKNOWN_VOCAB_SIZE, DataConfig, Experiment, RunConfig

MODEL = {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.3}


def tiny_experiment(root: Path, corpus: Path, **changes: Any) -> Experiment:
    """12 steps of a small byte model, validated every 5 and saved every 4. `changes` are `group__key=value`."""
    groups: dict[str, dict[str, Any]] = {
        "run": {"name": "tiny", "root": str(root), "log_every": 2, "eval_every": 5, "eval_batches": 2, "save_every": 4},
        "model": dict(MODEL),
        "optim": {"lr": 1e-2, "schedule": "constant", "warmup_steps": 3},
        "data": {"corpus": str(corpus), "tokenizer": "byte", "batch_size": 4},
        "trainer": {**TRAINER_DEFAULTS, "max_steps": 12, "accelerator": "cpu", "devices": 1},
    }
    groups["run"]["sample_every"] = 0
    seed = changes.pop("seed_everything", 3)
    for name, value in changes.items():
        group, key = name.split("__")
        groups[group][key] = value
    return Experiment(
        seed_everything=seed,
        run=RunConfig(**groups["run"]),
        model=GPTConfig(vocab_size=UNKNOWN_VOCAB_SIZE, **groups["model"]),
        optim=OptimConfig(**groups["optim"]),
        data=DataConfig(**groups["data"]),
        trainer=groups["trainer"],
        yaml=f"run: {{name: {groups['run']['name']}}}\noptim: {{name: {groups['optim'].get('name', 'adamw')}}}\n",
    )


def checkpoint(folder: Path, step: int) -> dict[str, Any]:
    """What the checkpoint of `step` holds."""
    return torch.load(folder / "checkpoints" / f"step={step:08d}.ckpt", weights_only=True)


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Weights and optimizer state are equal to the last bit."""
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for name, weight in one["state_dict"].items():
        assert torch.equal(weight, other["state_dict"][name]), name
    for mine, its in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        assert mine["state"].keys() == its["state"].keys()
        for parameter, state in mine["state"].items():
            for name, value in state.items():
                assert torch.equal(value, its["state"][parameter][name]), (parameter, name)


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    """The points of one curve as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)]

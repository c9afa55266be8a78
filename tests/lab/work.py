"""A workload of a toy size, to be changed one setting at a time."""

from typing import Any

from minigpt.data.token_estimate import TextOutlook
from minigpt.lab.plan.machine import Machine
from minigpt.lab.plan.speed import Speed
from minigpt.lab.plan.workload import Workload
from minigpt.model.config import GPTConfig
from minigpt.optim.config import OptimConfig

MODEL = {"vocab_size": 300, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32, "dropout": 0.0}


def text(**changes: Any) -> TextOutlook:
    counted = {"train_tokens": 1_000_000, "val_tokens": 100_000, "vocab_size": 300, "used_vocabulary": 300}
    told = {"held_out": "10.0%", "files": None, "source": "counted"}
    return TextOutlook(**{**counted, **told, "n_bytes": 2e6, "is_exact": True, **changes})


def workload(**changes: Any) -> Workload:
    settings: dict[str, Any] = {
        "config": GPTConfig(**MODEL),
        "optim": OptimConfig(warmup_steps=10),
        "text": text(),
        "corpus": "python",
        "tokenizer": "bpe",
        "batch_size": 8,
        "accumulate": 1,
        "max_steps": 1000,
        "eval_every": 100,
        "eval_batches": 2,
        "save_every": 100,
        "keep": 3,
        "sample_every": 0,
        "sample_tokens": 200,
        "precision": "32-true",
        "strategy": "single",
        "devices": 1,
    }
    return Workload(**settings | changes)


def machine(**changes: Any) -> Machine:
    settings: dict[str, Any] = {"name": "here", "kind": "cpu", "devices": 1, "bytes_per_device": 1e12, "is_here": True}
    return Machine(**settings | changes)


def speed(**changes: Any) -> Speed:
    settings: dict[str, Any] = {"batch": 0.1, "update": 0.01, "evaluation_batch": 0.03, "sampled_token": 0.001}
    return Speed(**settings | {"peak": 1e11, "is_measured": True, "source": "by a clock"} | changes)

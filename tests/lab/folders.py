"""Run folders written by hand: what a run leaves, without a training."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from minigpt.data.tokenizers import ByteTokenizer, Tokenizer

CONFIG: dict[str, Any] = {
    "seed_everything": 1,
    "run": {"name": "base", "root": "runs", "eval_every": 10, "eval_batches": 2},
    "model": {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16, "position": "learned"},
    "optim": {"lr": 0.001},
    "data": {"corpus": "python", "tokenizer": "byte", "batch_size": 4, "val_fraction": 0.1, "vocab_multiple": 1},
    "trainer": {"max_steps": 40, "accumulate_grad_batches": 1},
}
"""A step learns from 64 tokens."""
EVERY = 10


def write_run(
    folder: Path,
    losses: Sequence[float],
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 1,
    milliseconds: float = 100.0,
    fingerprint: str = "text",
    text: str | None = "the text",
    tokenizer: Tokenizer | None = None,
    bytes_per_token: float = 1.0,
    started: str = "2026-01-02T03:04:05+00:00",
    checkpoints: Sequence[int] | None = None,
    machine: str = "this one",
) -> Path:
    """A run that was validated every 10 steps and came to `losses`; `settings` are dotted keys.

    `text` stands for the hash of what it is validated on; None: it has none, as those of an older version.
    It has a checkpoint at its last validation, unless `checkpoints` says otherwise: empty files.
    """
    config = copy.deepcopy(CONFIG) | {"seed_everything": seed}
    config["run"]["name"] = folder.name
    for key, value in (settings or {}).items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    session: dict[str, Any] = {"started": started, "data_fingerprint": fingerprint, "machine": {"processor": machine}}
    if text is not None:
        session["texts"] = {"train": f"training {text}", "val": text}
    (folder / "provenance.json").write_text(json.dumps({"sessions": [session]}))
    (folder / "tokenizer.json").write_text((tokenizer or ByteTokenizer()).to_json())
    (folder / ".lock").touch()
    (folder / ".minigpt").write_text("minigpt run\n")
    lines = ["step,train/loss,train/tokens_per_second,train/ms_per_step,val/loss,val/bits_per_byte"]
    for number, loss in enumerate(losses, start=1):
        bits = loss / 0.6931471805599453 / bytes_per_token
        lines.append(f"{number * EVERY},{loss!r},{64000 / milliseconds!r},{milliseconds!r},{loss!r},{bits!r}")
    if losses:
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    for step in [len(losses) * EVERY] if checkpoints is None and losses else checkpoints or []:
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / f"step={step:08d}.ckpt").write_bytes(b"weights")
    return folder


def write_sweep(folder: Path, cells: Sequence[Mapping[str, Any]]) -> Path:
    """`sweep.json` as a sweep writes it; `cells` have name, group, state, and perhaps seed, reason, overrides."""
    defaults = {"overrides": {}, "seed": 1, "reason": None}
    content = {
        "format": 1,
        "name": folder.name,
        "base": {},
        "seeds": [1, 2, 3],
        "cells": [defaults | dict(cell) for cell in cells],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder

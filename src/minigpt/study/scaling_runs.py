"""The runs of a sweep as points of a scaling law, read from their folders."""

import csv
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from minigpt.errors import ConfigError, DataError, MinigptError
from minigpt.layout import SWEEP
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.study.scaling import Point
from minigpt.text.tokenizers import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class ScalingRun:
    """A finished run: its point, and what a recommendation is made from."""

    point: Point
    config: GPTConfig
    tokens_per_step: int
    flops_per_second: float | None
    """Of the model, while it trained."""
    corpus: str
    tokenizer: str
    vocab_size: int
    """Of the tokenizer."""


@dataclass(frozen=True, kw_only=True)
class ScalingSweep:
    """The finished runs of a sweep, and what is missing."""

    name: str
    folder: Path
    runs: list[ScalingRun]
    left_out: list[str]
    """One line for each run that is no point, and why."""

    @property
    def points(self) -> list[Point]:
        """In the order of the cells."""
        return [run.point for run in self.runs]


def read_sweep(folder: Path) -> ScalingSweep:
    """The sweep in `folder`, or any folder of runs; raises DataError where there is none, or not of one text."""
    names, told = _cells(folder)
    runs: list[ScalingRun] = []
    for name in names:
        try:
            runs.append(_read_run(folder / name))
        except MinigptError as error:
            told.append(f"{name}: {error}")
    if not runs:
        why = f" ({told[0]})" if told else ""
        raise DataError(f"{folder}: holds no finished run{why}; minigpt sweep makes some")
    for what in ("corpus", "tokenizer", "vocab_size"):
        kinds = sorted({str(getattr(run, what)) for run in runs})
        if len(kinds) > 1:
            raise DataError(
                f"{folder}: runs of more than one {what} ({', '.join(kinds)}): their losses do not compare, and one "
                f"law cannot hold for both"
            )
    return ScalingSweep(name=folder.resolve().name, folder=folder, runs=runs, left_out=told)


def _cells(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the cells that have finished, and one line for each of the others; without sweep.json, of all runs."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of a sweep")
    path = folder / SWEEP
    if not path.is_file():
        return sorted(found.parent.name for found in folder.glob("*/config.yaml")), []
    try:
        cells = [(str(cell["name"]), str(cell["state"])) for cell in json.loads(path.read_text("utf-8"))["cells"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: damaged: {error!r}") from None
    done = [name for name, state in cells if state == "finished"]
    return done, [f"{name}: {state}" for name, state in cells if state != "finished"]


def _read_run(folder: Path) -> ScalingRun:
    """Raises DataError for a run that is not done or cannot be read."""
    try:
        groups = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        max_steps = int(groups["trainer"]["max_steps"])
        data = groups["data"]
        accumulate = int(groups["trainer"].get("accumulate_grad_batches") or 1)
        vocab_size = load_tokenizer(folder / "tokenizer.json").vocab_size
        padded = -(-vocab_size // int(data["vocab_multiple"])) * int(data["vocab_multiple"])
        model = {name: value for name, value in groups["model"].items() if name != "vocab_size"}
        config = GPTConfig(vocab_size=padded, **model)
        rows = _metrics(folder / "metrics.csv")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"cannot be read: {error!r}") from None
    except ConfigError as error:
        raise DataError(str(error)) from None
    loss = rows.get(max_steps, {}).get("val/loss", math.nan)
    if not math.isfinite(loss):
        raise DataError(f"has no validation loss at its last step, {max_steps:,}")
    per_step = int(data["batch_size"]) * accumulate * config.block_size
    speeds = [row["train/tokens_per_second"] for row in rows.values() if "train/tokens_per_second" in row]
    flops = flops_per_token(config)
    return ScalingRun(
        point=Point(
            name=folder.name,
            n_parameters=parameter_count(config),
            n_tokens=max_steps * per_step,
            flops=flops * max_steps * per_step,
            loss=loss,
        ),
        config=config,
        tokens_per_step=per_step,
        flops_per_second=flops * statistics.median(speeds) if speeds else None,
        corpus=str(data["corpus"]),
        tokenizer=str(data["tokenizer"]),
        vocab_size=vocab_size,
    )


def _metrics(path: Path) -> dict[int, dict[str, float]]:
    """The rows of a metrics.csv by step, without their empty cells."""
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    return {int(row["step"]): {name: float(cell) for name, cell in row.items() if name and cell} for row in rows}

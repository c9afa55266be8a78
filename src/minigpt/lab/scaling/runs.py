"""The runs of a sweep as points of a scaling law, read from their folders."""

import math
from dataclasses import dataclass
from pathlib import Path

from minigpt.data.identity import DataIdentity
from minigpt.data.tokenizers import load_tokenizer
from minigpt.errors import DataError, MinigptError, shown
from minigpt.lab.compare.data import CORPUS, describe_data
from minigpt.lab.compare.summaries import median_speed
from minigpt.lab.scaling.fits import Point
from minigpt.lab.sweep.record import read_cells
from minigpt.model.config import GPTConfig
from minigpt.model.sizes import flops_per_token, parameter_count
from minigpt.optim.config import OptimConfig
from minigpt.runs.ownership import find_runs, is_run, is_sweep
from minigpt.runs.paths import TOKENIZER
from minigpt.runs.records import RunRecord, read_run


@dataclass(frozen=True, kw_only=True)
class ScalingRun:
    """A finished run as a point of the fit, with what a recommendation needs."""

    point: Point
    folder: Path
    config: GPTConfig
    tokens_per_step: int
    max_steps: int
    warmup_steps: int
    flops_per_second: float | None
    """Model FLOP/s during training."""
    corpus: str
    tokenizer: str
    vocab_size: int
    """Vocabulary of the tokenizer."""
    data: DataIdentity
    """Identifies the text it was trained and validated on."""
    tokenizer_fingerprint: str


@dataclass(frozen=True, kw_only=True)
class ScalingSweep:
    """The finished runs of a sweep, and those left out."""

    name: str
    folder: Path
    runs: list[ScalingRun]
    left_out: list[str]
    """One line for each run left out, with the reason."""
    unknown_text: bool = False
    """Whether only the name of the corpus suggests that all runs have the same text."""

    def __repr__(self) -> str:
        """One line."""
        left_out = f", {len(self.left_out)} left out" if self.left_out else ""
        return f"sweep {self.folder}: {len(self.runs)} finished runs{left_out}"

    @property
    def points(self) -> list[Point]:
        """The points of the fit, in the order of the cells."""
        return [run.point for run in self.runs]


def read_sweep(folder: Path) -> ScalingSweep:
    """Read the sweep in `folder`, or any folder of runs; raises DataError if there are none, or of several texts."""
    names, left_out = _cells(folder)
    runs: list[ScalingRun] = []
    records: list[RunRecord] = []
    for name in names:
        try:
            record = read_run(folder / name)
            runs.append(_read_run(record))
            records.append(record)
        except MinigptError as error:
            left_out.append(f"{name}: {str(error).removeprefix(f'{folder / name}: ')}")
    if not runs:
        why = f" ({left_out[0]})" if left_out else ""
        raise DataError(f"{folder}: holds no finished run{why}; minigpt sweep makes some")
    _check_alike(folder, runs, records)
    unknown = any(run.data.same_held_out(runs[0].data) is None for run in runs[1:])
    return ScalingSweep(name=folder.resolve().name, folder=folder, runs=runs, left_out=left_out, unknown_text=unknown)


def _check_alike(folder: Path, runs: list[ScalingRun], records: list[RunRecord]) -> None:
    """Raise DataError for runs on several texts or with several tokenizers, compared by content.

    Where the content is not recorded, names are compared.
    """
    first = runs[0]
    alike = [(run.data.same_held_out(first.data), run.corpus == first.corpus) for run in runs]
    others = [
        run for run, (same, one_name) in zip(runs, alike, strict=True) if not (one_name if same is None else same)
    ]
    kinds = {"corpus": [str(words[CORPUS]) for words in describe_data(records)] if others else []}
    if len({run.tokenizer_fingerprint for run in runs}) > 1:
        kinds["tokenizer"] = [f"{run.tokenizer} of {run.vocab_size:,} tokens" for run in runs]
    for what, found in kinds.items():
        if found:
            raise DataError(
                f"{folder}: runs of more than one {what} ({', '.join(sorted(set(found)))}): their losses do not "
                "compare, and one law cannot hold for both"
            )


def _cells(folder: Path) -> tuple[list[str], list[str]]:
    """The names of finished cells and a line for each other one; without sweep.json the names of all runs."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of a sweep")
    if is_run(folder) and not is_sweep(folder):
        raise DataError(f"{folder}: is a single run, and a law needs several: give the folder of a sweep, or of runs")
    if not is_sweep(folder):
        return [str(found.relative_to(folder)) for found in find_runs(folder)], []
    cells = read_cells(folder)
    done = [cell.name for cell in cells if cell.state == "finished"]
    return done, [f"{cell.name}: {cell.state}" for cell in cells if cell.state != "finished"]


def _read_run(record: RunRecord) -> ScalingRun:
    """Read a run; raises CheckpointError if its model is not known, DataError if it is not finished."""
    folder = record.folder
    config, data = record.model, record.config["data"]
    loss = record.metrics.get(record.max_steps, {}).get("val/loss", math.nan)
    if not math.isfinite(loss):
        raise DataError(f"it has no validation loss at its last step, {record.max_steps:,}")
    speed = median_speed(record)
    flops, n_tokens = flops_per_token(config), record.tokens_at(record.max_steps)
    return ScalingRun(
        point=Point(
            name=folder.name,
            n_parameters=parameter_count(config),
            n_tokens=n_tokens,
            flops=flops * n_tokens,
            loss=loss,
        ),
        folder=folder,
        config=config,
        tokens_per_step=record.tokens_per_step,
        max_steps=record.max_steps,
        warmup_steps=_warmup_steps(record),
        flops_per_second=None if speed is None else flops * speed,
        corpus=str(data["corpus"]),
        tokenizer=str(data["tokenizer"]),
        vocab_size=load_tokenizer(folder / TOKENIZER).vocab_size,
        data=record.identity,
        tokenizer_fingerprint=load_tokenizer(folder / TOKENIZER).fingerprint,
    )


def _warmup_steps(record: RunRecord) -> int:
    """The warm-up of a run; raises DataError if it is not a whole number."""
    steps = record.config["optim"].get("warmup_steps", OptimConfig.warmup_steps)
    if type(steps) is not int:
        raise DataError(f"its optim.warmup_steps={shown(steps)} is not a whole number")
    return steps

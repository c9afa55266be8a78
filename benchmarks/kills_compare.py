"""Whether two runs are the same to the last bit, and whether what a kill left behind is whole."""

import csv
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator

from minigpt.errors import MinigptError
from minigpt.runs.archive import read_archive
from minigpt.runs.checkpoint import read_checkpoint
from minigpt.runs.paths import BEST_NAME, step_name, step_paths
from minigpt.training.callbacks.curves import WALL_CLOCK

_NOT_COMPARED = frozenset({"minigpt.provenance", "minigpt.yaml", "minigpt.data.num_workers"})
"""Where two runs may differ inside a checkpoint: who wrote it, where, with how many loaders."""
_CLOSE = 2e-3
"""How far apart rounding may bring two runs: float32, 40 steps, a learning rate of 0.01."""


def differences(straight: Path, other: Path, last_step: int, *, to_rounding: bool = False) -> list[str]:
    """What differs between the runs in two folders, a line each: empty if nothing does.

    Compared are the last and the best checkpoint (weights, optimizer, loops, callbacks, losses), metrics.csv, and
    TensorBoard's curves and samples. `to_rounding` is for a run whose windows were added up in other groups: of it are
    compared the weights, the losses and gradient norms to `_CLOSE`, and what was read, when, to the last window.
    """
    found: list[str] = []
    if to_rounding:
        return list(_apart(straight, other, last_step))
    for name in (step_name(last_step), BEST_NAME):
        pair = [folder / "checkpoints" / name for folder in (straight, other)]
        absent = [str(path) for path in pair if not path.exists()]
        if absent:
            found.append(f"{name}: there is no {', '.join(absent)}")
            continue
        one, two = (read_archive(path) for path in pair)
        found += [f"{name}: {line}" for line in unequal(one, two)]
    found += [f"metrics.csv: {line}" for line in _unequal_rows(straight / "metrics.csv", other / "metrics.csv")]
    found += [f"TensorBoard: {line}" for line in _unequal_events(straight, other)]
    return found


def _apart(straight: Path, other: Path, last_step: int) -> Iterator[str]:
    """Where two runs of the same windows in other groups are further apart than rounding explains."""
    one, two = (read_archive(folder / "checkpoints" / step_name(last_step)) for folder in (straight, other))
    for name, weight in one["state_dict"].items():
        gap = float((weight - two["state_dict"][name]).abs().max())
        if not gap <= _CLOSE:
            yield f"{name}: up to {gap:.3g} apart"
    windows = [each["TokenDataModule"]["windows"] for each in (one, two)]
    if windows[0] != windows[1]:
        yield f"windows read: {windows[0]} and {windows[1]}"
    before, after = points(straight), points(other)
    for tag in before.keys() | after.keys():
        found, expected = dict(after.get(tag, [])), dict(before.get(tag, []))
        if [step for step, _ in after.get(tag, [])] != list(expected):
            yield f"{tag}: steps {[step for step, _ in after.get(tag, [])]} are not {list(expected)}"
        elif not tag.startswith("sample"):  # a token that is nearly as likely as another may be drawn
            for step, value in expected.items():
                if value is not None and not abs(found[step] - value) <= _CLOSE * max(1.0, abs(value)):
                    yield f"{tag} of step {step}: {found[step]} for {value}"


def unequal(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """The places at which two nested values differ; tensors by every bit, NaN included."""
    if where in _NOT_COMPARED:
        return
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape:
            yield f"{where}: {one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)}"
        elif one.contiguous().numpy().tobytes() != other.contiguous().numpy().tobytes():
            yield f"{where}: up to {(one.double() - other.double()).abs().max():.3g} apart"
    elif isinstance(one, dict):
        if one.keys() != other.keys():
            yield f"{where}: only in one of them: {sorted(map(str, one.keys() ^ other.keys()))}"
        for key in one.keys() & other.keys():
            yield from unequal(one[key], other[key], f"{where}.{key}" if where else str(key))
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            yield f"{where}: {len(one)} and {len(other)} entries"
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from unequal(*pair, f"{where}[{index}]")
    elif repr(one) != repr(other):
        yield f"{where}: {one!r} and {other!r}"


def _unequal_rows(straight: Path, other: Path) -> Iterator[str]:
    rows = []
    for path in (straight, other):
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
        often = [step for step, times in Counter(line["step"] for line in lines).items() if times > 1]
        if often:
            yield f"steps {often} stand in {path} more than once"
        kept = {line["step"]: {k: ("" if k in WALL_CLOCK and v else v) for k, v in line.items()} for line in lines}
        rows.append(kept)
    yield from unequal(rows[0], rows[1], "step")


def _unequal_events(straight: Path, other: Path) -> Iterator[str]:
    one, two = points(straight), points(other)
    for tag, values in two.items():
        steps = [step for step, _ in values]
        if steps != sorted(set(steps)):
            yield f"{tag}: steps {steps} are not each there once, in order"
    yield from unequal(one, two)


def points(run: Path) -> dict[str, list[tuple[int, Any]]]:
    """The points (step, value) of every curve of a run, and its samples, as TensorBoard reads them."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # that points were purged is what a resume asks for
    sizes = {"size_guidance": {"scalars": 0, "tensors": 0}}  # all of them, not a sample
    events = event_accumulator.EventAccumulator(str(run), **sizes)
    # The class above, which notebooks use, never forgets a text that was purged; TensorBoard's pages are made by this
    # one, which does.
    pages = plugin_event_accumulator.EventAccumulator(str(run), **sizes, tensor_size_guidance={"text": 0})
    events.Reload()
    pages.Reload()
    read: dict[str, list[tuple[int, Any]]] = {}
    for tag in events.Tags()["scalars"]:
        read[tag] = [(point.step, None if tag in WALL_CLOCK else point.value) for point in events.Scalars(tag)]
    for reader, name in ((events, ""), (pages, " on the page")):
        for tag in reader.Tags()["tensors"]:
            if tag.startswith("sample"):
                texts = [(point.step, point.tensor_proto.string_val[0]) for point in reader.Tensors(tag)]
                read[f"{tag}{name}"] = texts
    return read


def broken_files(root: Path) -> list[str]:
    """What is half-written under a final name in the runs of `root`: nothing, ever."""
    found: list[str] = []
    for folder in [path for path in root.glob("*") if path.is_dir()]:
        checkpoints = folder / "checkpoints"
        for path in [*step_paths(checkpoints), checkpoints / BEST_NAME]:
            try:
                if path.exists():
                    read_checkpoint(path)
            except MinigptError as error:
                found.append(str(error))
        for name in ("provenance.json", "tokenizer.json"):
            try:
                if (folder / name).exists():
                    json.loads((folder / name).read_text())
            except ValueError as error:
                found.append(f"{folder / name}: {error}")
    return found


def checkpoints_of(root: Path) -> list[Path]:
    """All checkpoints under final names in the runs of `root`."""
    return sorted(root.glob("*/checkpoints/*.ckpt"))


def leftovers(root: Path, but_of: int | None = None) -> list[Path]:
    """Temporary files that killed processes left under `root`, but those of the process `but_of`."""
    return [path for path in root.rglob(".*.tmp-*") if not path.name.endswith(f".tmp-{but_of}")]

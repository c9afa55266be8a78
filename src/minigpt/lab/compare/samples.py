"""The last text that each group sampled during training, read from its TensorBoard events."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.lab.compare.result import Comparison
from minigpt.lab.compare.table import ranked

_TAG = "sample/text_summary"
_INDENT = "    "
"""Before every line, for TensorBoard's Markdown."""


@dataclass(frozen=True)
class SampledText:
    """A text that one run sampled."""

    group: str
    run: str
    step: int
    text: str


def last_samples(comparison: Comparison) -> list[SampledText]:
    """The last sample of each group, of its first run that has one; the best group first."""
    found = []
    for group in ranked(comparison):
        runs = [run for run in comparison.runs if run.group == group.name]
        samples = (_last_sample(Path(run.folder)) for run in runs)
        for run, sample in zip(runs, samples, strict=True):
            if sample is not None:
                found.append(SampledText(group.name, run.name, *sample))
                break
    return found


def _last_sample(folder: Path) -> tuple[int, str] | None:
    """Step and text; None if there are no events, or none that can be read."""
    if not any(folder.glob("events.out.tfevents.*")):
        return None
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

    with _quiet(), contextlib.suppress(Exception):  # a damaged file may raise anything, and a report can do without
        events: Any = EventAccumulator(str(folder), size_guidance={TENSORS: 0})
        events.Reload()
        if _TAG in events.Tags()["tensors"]:
            last = events.Tensors(_TAG)[-1]
            text = last.tensor_proto.string_val[0].decode("utf-8", errors="replace")
            return int(last.step), "\n".join(line.removeprefix(_INDENT) for line in text.split("\n"))
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence TensorBoard's logger."""
    logger = logging.getLogger("tensorboard")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)

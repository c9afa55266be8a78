"""Where things lie in a run's folder, and in a sweep's."""

import re
from pathlib import Path

CONFIG = "config.yaml"
METRICS = "metrics.csv"
PROVENANCE = "provenance.json"
TOKENIZER = "tokenizer.json"
CHECKPOINTS = "checkpoints"
DIVERGENCES = "divergences"
CODE = "code"
"""In a run's folder: copies of the user's own files that its config names components of."""
LOCK = ".lock"
"""Held by the process that trains in the folder."""
LOCK_PATIENCE = 0.5
"""Seconds that a training waits for the lock: who looks whether it is held, holds it for a moment."""

SWEEP = "sweep.json"
"""In the folder of a sweep: its cells, each a run's folder beside it, and what became of them."""

EARLIER = re.compile(r"earlier-\d+")
"""Names of folders in a run's: what it had written before it began anew, without a checkpoint to go on from."""

LINES = tuple(f"line{number}" for number in range(1, 8))
"""Folders in a run's, each a run of its own to TensorBoard, which gives it a colour: of the curves that one chart shows
together every seventh is in the same. It has seven colours."""

BEST_NAME = "best.ckpt"
"""In a run's `checkpoints/`: the one of the lowest validation loss."""

_STEP_NAME = re.compile(r"step=(\d+)\.ckpt")


def step_name(step: int) -> str:
    """File name of the checkpoint after `step` optimizer steps."""
    return f"step={step:08d}.ckpt"


def step_paths(folder: Path) -> list[Path]:
    """The `step=N.ckpt` files of `folder`, oldest first; empty when there is no such folder."""
    found = [(int(match[1]), path) for path in folder.glob("*.ckpt") if (match := _STEP_NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]

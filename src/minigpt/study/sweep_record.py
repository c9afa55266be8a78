"""The record of a sweep, `sweep.json`, as those read it who want its runs; sweep_folder.py writes it."""

import json
from pathlib import Path
from typing import NamedTuple

from minigpt.errors import CheckpointError, shown
from minigpt.layout import SWEEP

FORMAT = 1
BASE_GROUP = "base"
"""The group of the cells that change nothing: what the others are compared with."""


class RecordedCell(NamedTuple):
    """What stands there of a cell; its run is the folder `name` beside the record."""

    name: str
    group: str
    """Its name without the seed."""
    state: str
    reason: str
    """Why it came to nothing; empty: it did not, or nobody knows."""


def is_sweep(folder: Path) -> bool:
    """Whether a sweep wrote `folder`."""
    return (folder / SWEEP).is_file()


def read_cells(sweep: Path) -> list[RecordedCell]:
    """The cells of the sweep in the folder `sweep`, one at least; raises CheckpointError, one line."""
    path = sweep / SWEEP
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise CheckpointError(f"{path} has format {shown(content['format'])}, this version reads {FORMAT}")
        cells = [
            RecordedCell(str(cell["name"]), str(cell["group"]), str(cell["state"]), str(cell.get("reason") or ""))
            for cell in content["cells"]
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {shown(str(error))}") from None
    if not cells:
        raise CheckpointError(f"{path} has no cells")
    return cells

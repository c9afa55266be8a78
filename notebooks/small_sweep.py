"""A sweep for the notebooks: the reader's own where there is one, else a small one, trained on the spot."""

import functools
import shutil
from pathlib import Path
from typing import Any

import yaml
from small_run import find_folder, minigpt, scratch_folder, wanted_steps

from minigpt.lab.sweep.record import is_sweep, read_cells

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SWEEP_FILE = "sweep.yaml"
STEPS = ("trainer.max_steps", "optim.warmup_steps", "run.eval_every")
"""The settings that count steps."""


def find_sweep(name: str) -> Path | None:
    """The folder `name`, from here or from the repository, if it is a sweep with a finished cell; else None."""
    return find_folder(name, lambda folder: is_sweep(folder) and any(c.state == "finished" for c in read_cells(folder)))


@functools.cache
def small_sweep(text: str) -> Path:
    """Train the sweep file `text` by `minigpt sweep` and give its folder, which is removed when Python ends.

    It may name its base as `configs/...`. The variable MINIGPT_NOTEBOOK_STEPS says what the shortest cell's steps
    shrink to, and the others' in proportion: the tests have little time. Raises RuntimeError if a cell comes to nothing.
    """
    sweep = _shrunk(yaml.safe_load(text))
    folder = scratch_folder()
    shutil.copytree(CONFIGS, folder / "configs")
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(sweep, sort_keys=False), encoding="utf-8")
    minigpt(["sweep", SWEEP_FILE], folder)
    return folder / "runs" / sweep["name"]


def _shrunk(sweep: dict[str, Any]) -> dict[str, Any]:
    """The sweep with fewer steps everywhere, where fewer are wanted."""
    groups = [sweep.get("overrides", {}), *sweep["cells"]]
    shortest = min(group["trainer.max_steps"] for group in groups if "trainer.max_steps" in group)
    share = wanted_steps(shortest) / shortest
    for group in groups:
        group.update({key: max(1, round(group[key] * share)) for key in STEPS if key in group})
    return sweep

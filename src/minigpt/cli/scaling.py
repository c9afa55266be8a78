"""Fit a scaling law to the runs of a sweep, draw it, and recommend a model size for a budget."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.options import argument, option
from minigpt.cli.threads import one_thread_of_algebra
from minigpt.errors import ConfigError, DataError, did_you_mean
from minigpt.system.marks import may_replace
from minigpt.system.output import echo
from minigpt.system.shipped_configs import shipped_configs

if TYPE_CHECKING:
    from minigpt.lab.scaling.runs import ScalingSweep

PICTURE = "scaling.png"
MARKS = {"picture": b"minigpt scaling", "law": b'"format"'}
"""Bytes near the beginning of the files that this command writes, by which it recognises them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which sweep, for which budget, and where the results go."""

    sweep: str = argument("SWEEP")
    """Folder of a sweep, or its YAML file once its runs are there."""
    root: Path = option(Path("runs"), "FOLDER")
    """Where the sweep of a YAML file lives."""
    flops: float | None = option(None, "C", exclusive=True)
    """Say what to train for so many FLOPs."""
    hours: float | None = option(None, "H", exclusive=True)
    """Say what to train for so many hours at the speed of the sweep's own runs."""
    picture: Path | None = option(None, "FILE")
    """File .png or .svg (default: scaling.png in the sweep's folder)."""
    law: Path | None = option(None, "FILE.json")
    """File for the law (default: scaling.json in the sweep's folder)."""
    bootstraps: int = 200
    """Fits that the intervals come from."""


def run(options: Options) -> int:
    """Read, fit, print, draw and save; gives 0."""
    _check_numbers(options)
    with one_thread_of_algebra(os.environ):
        import scipy.optimize  # noqa: F401  numpy comes with it, and whoever imports either later gets these
    _check_files(options)
    folder = find_folder(options.sweep, options.root)
    from minigpt.lab.scaling.law_file import FILE_NAME, write_law
    from minigpt.lab.scaling.picture import draw
    from minigpt.lab.scaling.result import study_scaling
    from minigpt.lab.scaling.runs import read_sweep
    from minigpt.lab.scaling.text import result_text

    sweep = read_sweep(folder)
    flops, how = _budget(options, sweep)
    result = study_scaling(sweep, flops, bootstraps=options.bootstraps)
    law = options.law or folder / FILE_NAME
    picture = options.picture or folder / PICTURE
    write_law(law, result.fitted_law(), result.fit.as_dict())
    draw(picture, result)
    echo(result_text(result, how))
    echo(f"\nlaw      {law} (minigpt plan reads it)\npicture  {picture}")
    return 0


def _check_numbers(options: Options) -> None:
    for name in ("flops", "hours"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{name} {value} must be a finite number above 0")
    if options.bootstraps < 10:
        raise ConfigError(f"--bootstraps {options.bootstraps} must be 10 or more: an interval comes from them")


def _check_files(options: Options) -> None:
    from minigpt.lab.scaling.picture import FORMATS

    for name, suffixes in (("picture", FORMATS), ("law", (".json",))):
        value = getattr(options, name)
        if value is None:
            continue
        if value.suffix not in suffixes:
            raise ConfigError(f"--{name} {value} must end in {' or '.join(suffixes)}")
        if not value.parent.is_dir():
            raise ConfigError(f"--{name} {value}: there is no folder {value.parent}")
        if not may_replace(value, MARKS[name]):
            raise ConfigError(f"--{name} {value} is there, and minigpt scaling did not write it: name another file")


def find_folder(sweep: str, root: Path) -> Path:
    """Return the folder of a sweep, given by itself or by its YAML file; raises DataError if it is not there."""
    path = Path(sweep)
    if path.is_dir():
        return path
    path = shipped_configs().get(sweep, path)
    if path.suffix not in {".yaml", ".yml"}:
        near = did_you_mean(path.name, [found.name for found in path.parent.glob("*") if found.is_dir()])
        raise DataError(f"{sweep}: no such folder of a sweep, and no YAML file of one{near}")
    from minigpt.cli.keys import is_sweep_file
    from minigpt.cli.yaml_files import load_yaml

    content = load_yaml(path, named="")
    if not is_sweep_file(content):
        raise DataError(
            f"{sweep}: is no sweep file, which has a base: a law needs the runs of a sweep, or a folder of runs"
        )
    folder = root / str(content.get("name") or path.stem)
    if not folder.is_dir():
        raise DataError(f"{folder}: the sweep {sweep} has no runs yet: minigpt sweep {sweep}")
    return folder


def _budget(options: Options, sweep: "ScalingSweep") -> tuple[float, str]:
    """Return the budget in FLOPs and its explanation; without one, ten times the sweep's largest."""
    from minigpt.lab.scaling.advice import speed_of
    from minigpt.system.units import speed_text

    if options.flops is not None:
        return options.flops, ""
    if options.hours is not None:
        speed = speed_of(sweep.runs)
        if speed is None:
            raise DataError(f"{sweep.folder}: its runs have no speed in metrics.csv: give --flops")
        return speed * 3600 * options.hours, f" ({options.hours:g} h at the {speed_text(speed)} of these runs)"
    largest = max(point.flops for point in sweep.points)
    return 10 * largest, " (ten times the largest run)"

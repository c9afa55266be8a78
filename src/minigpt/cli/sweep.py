"""Train every cell of a sweep file: a base config, what is changed in it, and the seeds. Restartable at any moment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from minigpt.cli.options import argument, option
from minigpt.errors import ConfigError
from minigpt.lab.sweep.file import EngineName, Sweep, base_of, parse_sweep
from minigpt.system.output import console
from minigpt.system.shipped_configs import find_config

if TYPE_CHECKING:
    from minigpt.lab.sweep.job import Job


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which sweep, and how its cells are run."""

    sweep: str = argument("SWEEP.yaml")
    """Base, seeds, overrides, and grid, cells or search; or the name of a shipped one."""
    name: str | None = option(None, "NAME")
    """Another name than the file's."""
    set: tuple[str, ...] = option((), "KEY=VALUE", append=True)
    """An override for all cells, over the file's."""
    jobs: int | None = None
    """Cells at a time (default: one for each GPU, or for each core)."""
    retry: bool = False
    """Run cells that diverged or failed again."""
    engine: EngineName = "local"
    """Local: as processes of this machine; ray: as tasks of a Ray cluster; slurm: not yet, a script for a job array is
    written."""
    address: str | None = option(None, "HOST:PORT")
    """Ray: a cluster that is running (default: one of its own)."""
    gpus_per_cell: int | None = None
    """GPUs that a cell has to itself, or asks Ray or SLURM for; 0: none is set apart (default: trainer.devices where it
    is a number, or 1; none on a CPU)."""
    cpus_per_cell: int | None = None
    """Threads of a cell, and the cores that it takes up, or asks Ray or SLURM for (default: $OMP_NUM_THREADS, or a
    share of this machine's cores; slurm: 4)."""
    cell: int | None = option(None, "I")
    """Run this one alone, by its place in sweep.json: for SLURM."""


def run(options: Options) -> int:
    """Check every cell, then train them; gives 0, 1 if a cell went wrong, 130 or 143 if the sweep was stopped."""
    return run_job(make_job(options), options)


def run_job(job: "Job", options: Options) -> int:
    """Train the cells on the engine that the options name; gives the exit code."""
    from minigpt.lab.sweep.local import run_one

    return engines()[options.engine](job) if options.cell is None else run_one(job, options.cell)


def engines() -> "dict[EngineName, Callable[[Job], int]]":
    """The function that runs a sweep on each engine."""
    from minigpt.lab.sweep.local import run_local
    from minigpt.lab.sweep.ray import run_on_ray
    from minigpt.lab.sweep.slurm import write_script

    return {"local": run_local, "ray": run_on_ray, "slurm": write_script}


def _check_options(options: Options) -> None:
    for name, least in (("jobs", 1), ("gpus_per_cell", 0), ("cpus_per_cell", 1), ("cell", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} {value} must be at least {least}")
    if options.address is not None and options.engine != "ray":
        raise ConfigError(f"--address {options.address} has no effect with --engine {options.engine}: choose ray")
    if options.cell is not None and options.engine != "local":
        raise ConfigError(f"--cell {options.cell} runs here: leave out --engine {options.engine}")
    for name in ("jobs", "gpus_per_cell"):
        if options.cell is not None and getattr(options, name):
            raise ConfigError(f"--{name} {getattr(options, name)} has no effect with --cell, which has all there is")


def _read(options: Options) -> Sweep:
    """Read the sweep file and apply the options to it."""
    from minigpt.cli.yaml_files import load_yaml

    path = find_config(options.sweep, named="")
    content = load_yaml(path, named="")
    changes = dict(_change(word) for word in options.set)
    if options.name is not None:
        content["name"] = options.name
    if "seeds" not in content and "base" in content:
        from minigpt.cli.parser import SEED

        seed = load_yaml(base_of(content, path)).get("seed_everything")
        content["seeds"] = [seed if type(seed) is int else SEED]
    sweep = parse_sweep(content, path, changes=changes)
    for what, is_given in (("--retry", options.retry), ("--cell", options.cell is not None)):
        if sweep.search and is_given:
            raise ConfigError(f"{what} is not for a search: its trials follow from each other")
    return sweep


def _change(word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {word} must be KEY=VALUE, as optim.lr=0.001")
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError:
        return key, text


def _check_gpus(wanted: int | None, accelerator: str) -> None:
    if wanted and accelerator == "cpu":
        raise ConfigError(f"--gpus_per_cell {wanted} has no effect with trainer.accelerator={accelerator}: choose gpu")


def make_job(options: Options) -> "Job":
    """Check the options and every cell, and return the sweep with the options for running it."""
    from minigpt.cli.sweep_cells import SweepCells

    _check_options(options)
    sweep = _read(options)
    cells = SweepCells(sweep)
    cells.check()

    from minigpt.lab.sweep.folder import SweepFolder
    from minigpt.lab.sweep.job import Job

    if sweep.search:
        from minigpt.lab.sweep.search import check_optuna

        check_optuna()
    trainer = cells.base.trainer
    _check_gpus(options.gpus_per_cell, trainer["accelerator"])
    named = [] if options.name is None else ["--name", options.name]
    return Job(
        folder=SweepFolder(cells.folder, sweep, sweep.base_path.read_text(encoding="utf-8")),
        make_run=cells.make_run,
        console=console(),
        command=["sweep", options.sweep, *named, *(part for word in options.set for part in ("--set", word))],
        jobs=options.jobs,
        gpus_per_cell=options.gpus_per_cell,
        cpus_per_cell=options.cpus_per_cell,
        accelerator=trainer["accelerator"],
        devices=trainer["devices"] if type(trainer["devices"]) is int and trainer["devices"] > 0 else 1,
        retry=options.retry,
        address=options.address,
    )

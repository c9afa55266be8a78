"""Train every cell of a sweep file: a base config, what is changed in it, and the seeds. Restartable at any moment."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from minigpt.errors import ConfigError
from minigpt.lab.sweep.file import EngineName, Sweep, base_of, parse_sweep
from minigpt.lab.sweep.slots import TASK_CPUS
from minigpt.system.output import console
from minigpt.system.shipped_configs import find_config

if TYPE_CHECKING:
    from minigpt.lab.sweep.job import Job

_ABSENT: dict[str, Any] = dict.fromkeys(("name", "jobs", "address", "gpus_per_cell", "cpus_per_cell", "cell"))
"""Options without a default: argparse's help is to show none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    absent = argparse.SUPPRESS
    parser.add_argument(
        "sweep",
        metavar="SWEEP.yaml",
        help="base, seeds, overrides, and grid, cells or search; or the name of a shipped sweep",
    )
    parser.add_argument("--name", metavar="NAME", default=absent, help="another name than the file's")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="an override for all cells, over the file's"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        default=absent,
        help="cells at a time (default: one for each GPU, or for each core)",
    )
    parser.add_argument("--retry", action="store_true", help="run cells that diverged or failed again")
    parser.add_argument(
        "--engine",
        choices=get_args(EngineName),
        default="local",
        help="local: as processes of this machine; ray: as tasks of a Ray cluster; slurm: not yet, a script for a job "
        "array is written",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=absent,
        help="ray: a cluster that is running (default: one of its own)",
    )
    parser.add_argument(
        "--gpus_per_cell",
        type=int,
        metavar="N",
        default=absent,
        help="GPUs that a cell has to itself, or asks Ray or SLURM for; 0: none is set apart "
        "(default: trainer.devices where it is a number, or 1; none on a CPU)",
    )
    parser.add_argument(
        "--cpus_per_cell",
        type=int,
        metavar="N",
        default=absent,
        help="threads of a cell, and the cores that it takes up, or asks Ray or SLURM for (default: $OMP_NUM_THREADS, "
        f"or a share of this machine's cores; slurm: {TASK_CPUS})",
    )
    parser.add_argument(
        "--cell",
        type=int,
        metavar="I",
        default=absent,
        help="run this one alone, by its place in sweep.json: for SLURM",
    )


def run(args: argparse.Namespace) -> int:
    """Check every cell, then train them; gives 0, 1 if a cell went wrong, 130 or 143 if the sweep was stopped."""
    args = argparse.Namespace(**{**_ABSENT, **vars(args)})
    _check_options(args)
    job = _job(args, _read(args))
    from minigpt.lab.sweep.local import run_one

    return engines()[args.engine](job) if args.cell is None else run_one(job, args.cell)


def engines() -> "dict[EngineName, Callable[[Job], int]]":
    """The function that runs a sweep on each engine."""
    from minigpt.lab.sweep.local import run_local
    from minigpt.lab.sweep.ray import run_on_ray
    from minigpt.lab.sweep.slurm import write_script

    return {"local": run_local, "ray": run_on_ray, "slurm": write_script}


def _check_options(args: argparse.Namespace) -> None:
    for name, least in (("jobs", 1), ("gpus_per_cell", 0), ("cpus_per_cell", 1), ("cell", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} {value} must be at least {least}")
    if args.address is not None and args.engine != "ray":
        raise ConfigError(f"--address {args.address} has no effect with --engine {args.engine}: choose ray")
    if args.cell is not None and args.engine != "local":
        raise ConfigError(f"--cell {args.cell} runs here: leave out --engine {args.engine}")
    for name in ("jobs", "gpus_per_cell"):
        if args.cell is not None and getattr(args, name):
            raise ConfigError(f"--{name} {getattr(args, name)} has no effect with --cell, which has all there is")


def _read(args: argparse.Namespace) -> Sweep:
    """The sweep file with the options over it."""
    from minigpt.cli.yaml_files import load_yaml

    path = find_config(args.sweep, named="")
    content = load_yaml(path, named="")
    changes = dict(_change(word) for word in args.set)
    if args.name is not None:
        content["name"] = args.name
    if "seeds" not in content and "base" in content:
        from minigpt.cli.parser import SEED

        seed = load_yaml(base_of(content, path)).get("seed_everything")
        content["seeds"] = [seed if type(seed) is int else SEED]
    sweep = parse_sweep(content, path, changes=changes)
    for what, is_given in (("--retry", args.retry), ("--cell", args.cell is not None)):
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


def _job(args: argparse.Namespace, sweep: Sweep) -> "Job":
    """The checked sweep and what the command line says of how to run it."""
    from minigpt.cli.sweep_cells import SweepCells

    cells = SweepCells(sweep)
    cells.check()

    from minigpt.lab.sweep.folder import SweepFolder
    from minigpt.lab.sweep.job import Job

    if sweep.search:
        from minigpt.lab.sweep.search import check_optuna

        check_optuna()
    trainer = cells.base["trainer"]
    _check_gpus(args.gpus_per_cell, trainer["accelerator"])
    named = [] if args.name is None else ["--name", args.name]
    return Job(
        folder=SweepFolder(cells.folder, sweep, sweep.base_path.read_text(encoding="utf-8")),
        make_run=cells.make_run,
        console=console(),
        command=["sweep", args.sweep, *named, *(part for word in args.set for part in ("--set", word))],
        jobs=args.jobs,
        gpus_per_cell=args.gpus_per_cell,
        cpus_per_cell=args.cpus_per_cell,
        accelerator=trainer["accelerator"],
        devices=trainer["devices"] if type(trainer["devices"]) is int and trainer["devices"] > 0 else 1,
        retry=args.retry,
        address=args.address,
    )

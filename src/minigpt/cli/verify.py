"""Retrain the steps between two checkpoints of a run here and compare every bit; the run is not touched."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from minigpt.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from minigpt.training.verify import Outcome, Stretch

_PARTS = {
    "state_dict": "weights",
    "optimizer_states": "optimizer values",
    "loops": "counters",
    "curve": "points of the curve",
}
_SHOWN = 3
_CLASSES = ("callbacks", "plugins", "logger")
"""Of the trainer's settings, those that are nothing but classes; others may name one by class_path."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", metavar="RUN", help="run folder, or its name under runs/")
    parser.add_argument(
        "--build_classes",
        action="store_true",
        help="build the callbacks and other classes that the run's config names: for a run of your own",
    )
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint to arrive at (default: the newest)")


def run(args: argparse.Namespace) -> int:
    """Write the verdict to stdout; gives 0 if the run is reproduced to the last bit, 1 if not."""
    folder = _run_folder(args.run)
    from minigpt.training.verify import find_stretch, verify

    stretch = find_stretch(folder, args.step)
    if not args.build_classes:
        refuse_classes(stretch.end.yaml, stretch.end.path)
    with tempfile.TemporaryDirectory(prefix="minigpt-verify-") as scratch:
        config = Path(scratch) / "config.yaml"
        config.write_text(stretch.end.yaml, encoding="utf-8")
        from minigpt.cli.parsing import parse

        try:
            experiment, _ = parse(["--config", str(config)])
        except ConfigError as error:
            raise CheckpointError(f"{stretch.end.path}: this version cannot read its config: {error}") from error
        print(f"run        {folder}")
        begin = f"step {stretch.first:,}" if stretch.begin else "the beginning"
        print(f"stretch    from {begin} to step {stretch.end.step:,}, retraining ...", flush=True)
        outcome = verify(stretch, experiment, Path(scratch) / "runs")
    print("\n".join(_report(stretch, outcome)))
    return 0 if outcome.identical else 1


def refuse_classes(config: str, path: Path) -> None:
    """Raise CheckpointError if the config that a checkpoint carries has Python classes built: it may be a stranger's.

    A class takes any arguments and may write anywhere, so a person must have said yes to it.
    """
    try:
        content = yaml.safe_load(config)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, RecursionError):
        return  # reading the config will say what is wrong
    trainer = content.get("trainer") if isinstance(content, dict) else None
    for name, value in trainer.items() if isinstance(trainer, dict) else ():
        named = value not in (None, True, False, []) if name in _CLASSES else "class_path" in str(value)
        if named:
            raise CheckpointError(
                f"{path}: its config has trainer.{name} build classes: look at it, and give --build_classes if the run "
                "is your own"
            )


def _run_folder(name: str) -> Path:
    """The folder of a run; a checkpoint file or a missing name is one line."""
    from minigpt.checkpoint import find_checkpoint

    path = Path(name)
    if path.is_file():
        raise ConfigError(f"{path} is a file: verify takes a run's folder")
    found = find_checkpoint(path, prefer="last")  # says what is missing, with the nearest name
    return found.parent.parent if found.parent.name == "checkpoints" else found.parent


def _report(stretch: "Stretch", outcome: "Outcome") -> list[str]:
    counts = ", ".join(
        f"{outcome.compared[part]:,} {name}" for part, name in _PARTS.items() if part in outcome.compared
    )
    others = sum(count for part, count in outcome.compared.items() if part not in _PARTS)
    lines = [f"compared   {counts} and {others:,} other values, after {outcome.seconds:.0f} s"]
    if outcome.identical:
        lines.append(f"verdict    identical: step {stretch.end.step:,} came out the same to the last bit")
    else:
        lines.append("verdict    different")
        lines += [f"  curve: {line}" for line in outcome.curve]
        for part, differences in outcome.parts.items():
            lines.append(f"  {part}: {len(differences)} of {outcome.compared[part]} differ")
            lines += [f"    {line}" for line in differences[:_SHOWN]]
    if outcome.world:
        lines.append("this world is not the one of the run:")
        lines += [f"  {name}: {then} then, {now} now" for name, (then, now) in outcome.world.items()]
    elif not outcome.identical:
        lines.append("versions, machine, threads and data are those of the run: what differs is not in its provenance")
    return lines

"""Retrain the steps between two checkpoints of a run here and compare every bit; the run's folder is not touched."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from minigpt.cli.options import CodeOptions, argument, option
from minigpt.errors import CheckpointError, ConfigError, did_you_mean, printable
from minigpt.system.output import echo

if TYPE_CHECKING:
    from minigpt.lab.verify.differences import VerifyResult
    from minigpt.lab.verify.verify import Segment
    from minigpt.training.config import Experiment

_PARTS = {
    "state_dict": "weights",
    "optimizer_states": "optimizer values",
    "loops": "counters",
    "curve": "points of the curve",
}
_SHOWN = 3
_TIMER = "Timer"
"""Lightning's class behind trainer.max_time, which keeps the time that passed."""
_CLASSES = ("callbacks", "plugins", "logger")
"""Trainer settings that are always classes; others may name one by class_path."""


@dataclass(frozen=True, kw_only=True)
class Options(CodeOptions):
    """Which run, and what of it is retrained."""

    run: str = argument("RUN")
    """Run folder, or its name under runs/."""
    build_classes: bool = False
    """Build the callbacks and other classes that the run's config names: for a run of your own."""
    leave_out: tuple[str, ...] = option((), "CLASS")
    """With --build_classes: callbacks of the config that must not run again, because they write elsewhere."""
    step: int | None = None
    """The checkpoint to arrive at (default: the newest)."""


def run(options: Options) -> int:
    """Write the verdict to stdout; gives 0 if the run is reproduced to the last bit, 1 if not."""
    folder = _run_folder(options.run)
    from minigpt.lab.verify.verify import callbacks_again, find_segment, verify
    from minigpt.training.world import find_world

    segment = find_segment(folder, options.step)
    if not options.build_classes:
        refuse_classes(segment.end.yaml, segment.end.path)
    with tempfile.TemporaryDirectory(prefix="minigpt-verify-") as scratch:
        config, left_out = retrainable(segment.end.yaml, options.leave_out, segment.end.path)
        experiment = _experiment(config, Path(scratch), segment.end.path)
        if find_world(experiment.trainer).is_main:
            echo(f"run        {printable(str(folder))}")
            begin = f"step {segment.first:,}" if segment.begin else "the beginning"
            over = f" straight over the resume at step {segment.border.step:,}" if segment.border else ""
            echo(f"segment    from {begin}{over} to step {segment.end.step:,}, retraining ...")
            if again := callbacks_again(experiment):
                echo(f"callbacks  {', '.join(again)} run again and write what they wrote: --leave_out CLASS skips one")
            if segment.uncovered:
                line = f"the first step after the resume at step {segment.first:,} is not covered: {segment.uncovered}"
                echo(printable(line))
        result = verify(segment, experiment, Path(scratch) / "runs", left_out)
    if result is None:
        return 0  # the first process says it
    echo("\n".join(map(printable, _report(segment, result))))
    return 0 if result.identical else 1


def retrainable(config: str, leave_out: Sequence[str], path: Path) -> tuple[str, set[str]]:
    """Return a checkpoint's config without what only writes or watches the clock, and the callback classes left out.

    Loggers, a profiler and a limit of time change no step of a training, and callbacks of the classes `leave_out` do
    not, as their user says. Raises ConfigError for a class that the config does not name.
    """
    from minigpt.cli.yaml_files import dump

    content = _content(config)
    trainer = content.get("trainer") if content else None
    if content is None or not isinstance(trainer, dict):
        return config, set()  # reading the config will say what is wrong
    left_out = {*leave_out} | ({_TIMER} if trainer.get("max_time") is not None else set())
    callbacks = trainer.get("callbacks") or []
    named = [_class_name(each) for each in (callbacks if isinstance(callbacks, list) else [callbacks])]
    for name in leave_out:
        if name not in named:
            known = ", ".join(named) or "there are none"
            raise ConfigError(f"--leave_out {name}: {path} has callbacks {known}{did_you_mean(name, named)}")
    if isinstance(callbacks, list):
        trainer["callbacks"] = [each for each in callbacks if _class_name(each) not in left_out]
    elif named[0] in left_out:
        trainer["callbacks"] = None
    trainer |= {"logger": trainer.get("logger") is not False, "profiler": None, "max_time": None}
    return dump(content), left_out


def _class_name(callback: Any) -> str:
    """Return the bare name of a class that a config names."""
    return str(callback.get("class_path") if isinstance(callback, dict) else callback).rpartition(".")[2]


def _content(config: str) -> dict[str, Any] | None:
    """Parse the YAML; None if it is broken or no mapping."""
    try:
        content = yaml.safe_load(config)
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _experiment(content: str, scratch: Path, path: Path) -> "Experiment":
    """Build the experiment of the config that the checkpoint `path` carries, with the classes that it names."""
    from minigpt.cli.experiment import build_experiment

    config = scratch / "config.yaml"
    config.write_text(content, encoding="utf-8")
    try:
        return build_experiment(["--config", str(config)])[0]
    except ConfigError as error:
        raise CheckpointError(f"{path}: this version cannot read its config: {error}") from error


def refuse_classes(config: str, path: Path) -> None:
    """Raise CheckpointError if the config that a checkpoint carries names Python classes: it may be a stranger's.

    A class takes any arguments and may write anywhere, so a person must have said yes to it.
    """
    content = _content(config)
    trainer = content.get("trainer") if content else None  # reading a bad one will say what is wrong
    for name, value in trainer.items() if isinstance(trainer, dict) else ():
        named = value not in (None, True, False, []) if name in _CLASSES else "class_path" in str(value)
        if named:
            raise CheckpointError(
                f"{path}: its config has trainer.{name} build classes: look at it, and give --build_classes if the run "
                "is your own"
            )


def _run_folder(name: str) -> Path:
    """Return the folder of a run; raises ConfigError for a checkpoint file, CheckpointError for what is missing."""
    from minigpt.runs.checkpoint import find_checkpoint

    path = Path(name)
    if path.is_file():
        raise ConfigError(f"{path} is a file: verify takes a run's folder")
    found = find_checkpoint(path, prefer="last")  # says what is missing, with the nearest name
    return found.parent.parent if found.parent.name == "checkpoints" else found.parent


def _report(segment: "Segment", result: "VerifyResult") -> list[str]:
    counts = ", ".join(f"{result.compared[part]:,} {name}" for part, name in _PARTS.items() if part in result.compared)
    others = sum(count for part, count in result.compared.items() if part not in _PARTS)
    lines = [f"compared   {counts} and {others:,} other values, after {result.seconds:.0f} s"]
    if result.identical:
        lines.append(f"verdict    identical: step {segment.end.step:,} came out the same to the last bit")
    else:
        lines.append("verdict    different")
        lines += [f"  curve: {line}" for line in result.curve]
        for part, differences in result.parts.items():
            lines.append(f"  {part}: {len(differences)} of {result.compared[part]} differ")
            lines += [f"    {line}" for line in differences[:_SHOWN]]
    if result.environment:
        lines.append("this environment is not that of the run:")
        lines += [f"  {name}: {then} then, {now} now" for name, (then, now) in result.environment.items()]
    elif not result.identical:
        lines.append("versions, machine, threads and data are those of the run: what differs is not in its provenance")
    return lines

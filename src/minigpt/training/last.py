"""Find the run that `--ckpt_path last` resumes: the newest of the same experiment."""

import re
import shlex
from pathlib import Path

from minigpt.errors import CheckpointError, ConfigError, did_you_mean
from minigpt.runs.ownership import is_run
from minigpt.runs.paths import CONFIG
from minigpt.training.changes import Changes, other_experiment, run_settings
from minigpt.training.config import Experiment

_SHOWN = 3


def last_run(experiment: Experiment) -> Path:
    """The folder of the newest run of this experiment.

    Candidates are ROOT/NAME, and ROOT/NAME-2, ... whose own config has that name: a run that was named `exp-2` is not
    the second run of the name `exp`. The newest whose config is this one in all that makes an experiment is meant. A
    single candidate is meant all the same: what is changed is shown. Several others are one line that lists them.
    Raises CheckpointError if there is none, ConfigError where it must be said which.
    """
    root, name = Path(experiment.run.root), experiment.run.name
    family = find_family(root, name)
    if not family:
        return _renamed(experiment, root, name)
    differ = {folder: other_experiment(experiment, folder) for folder in family}
    same = [folder for folder in family if not differ[folder]]
    if not same and len(family) > 1:
        commands = "; ".join(f"{resume_command(folder)} ({changes_text(differ[folder])})" for folder in family[:_SHOWN])
        more = f"; and {len(family) - _SHOWN} more" if len(family) > _SHOWN else ""
        raise ConfigError(f"--ckpt_path last: which run? none in {root} has this config: {commands}{more}")
    return (same or family)[0]


def find_family(root: Path, name: str) -> list[Path]:
    """The folders of the runs of that name, the highest number first."""
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    numbers: dict[Path, int] = {}
    for folder in root.glob("*") if root.is_dir() else ():
        match = pattern.fullmatch(folder.name)
        if folder.name == name and is_run(folder):
            numbers[folder] = 1
        elif match and is_run(folder) and run_settings(folder).get("run.name") == name:
            numbers[folder] = int(match[1])
    return sorted(numbers, key=lambda folder: -numbers[folder])


def _renamed(experiment: Experiment, root: Path, name: str) -> Path:
    """The one run in `root` that had the name when it was begun, and another since, and is this experiment."""
    runs = [folder for folder in sorted(root.glob("*")) if is_run(folder)] if root.is_dir() else []
    was = [folder for folder in runs if run_settings(folder).get("run.name") == name]
    same = [folder for folder in was if not other_experiment(experiment, folder)]
    if len(same) == 1:
        return same[0]
    if was:
        commands = "; ".join(resume_command(folder) for folder in was[:_SHOWN])
        raise CheckpointError(f"--ckpt_path last: there is no run {name} in {root}; renamed since: {commands}")
    near = did_you_mean(name, [folder.name for folder in runs])
    raise CheckpointError(f"--ckpt_path last: there is no run {name} in {root}{near}")


def resume_command(folder: Path) -> str:
    """The command that resumes that run, to be pasted."""
    return shlex.join(["minigpt", "fit", "--resume", str(folder)])


def changes_text(changes: Changes) -> str:
    """The first few of `changes`: `optim.lr 0.001, here 0.01`."""
    shown = [f"{key} {then}, here {now}" for key, (then, now) in changes.items()]
    return "; ".join(shown[:_SHOWN]) + ("; ..." if len(shown) > _SHOWN else "") or f"its {CONFIG} cannot be read"

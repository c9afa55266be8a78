"""`minigpt fit --resume RUN`: find the folder of the run, and the command line that continues it."""

import re
from collections.abc import Sequence
from pathlib import Path

from minigpt.errors import CheckpointError, ConfigError, did_you_mean
from minigpt.runs.ownership import is_run
from minigpt.runs.paths import CHECKPOINTS, CONFIG, step_paths

OPTION = "--resume"
_REFUSED = {"--config": "it goes on by that run's own config.yaml", "--ckpt_path": "it says where to begin"}


def resumed(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """Replace `--resume RUN` by the run's own config.yaml; return the words and the folder (None without --resume).

    Raises ConfigError for options that contradict it, CheckpointError for what is no run.
    """
    words = list(argv)
    places = [place for place, word in enumerate(words) if word == OPTION or word.startswith(f"{OPTION}=")]
    if not places:
        return words, None
    if len(places) > 1:
        raise ConfigError(f"{OPTION} is given twice: a command continues one run")
    place = places[0]
    _, equals, value = words[place].partition("=")
    rest = words[:place] + words[place + (1 if equals else 2) :]
    if not equals:
        value = words[place + 1] if place + 1 < len(words) else ""
    if not value or (not equals and value.startswith("--")):
        raise ConfigError(f"{OPTION} needs the folder of a run, as in {OPTION} runs/base")
    folder = find_run(Path(value))
    kept = _without_agreeing(rest, folder)
    return ["--config", str(folder / CONFIG), *_names(folder), *kept], folder


def find_run(path: Path) -> Path:
    """Return the folder of a run given by its folder, its name under runs/, or its newest checkpoint."""
    if not path.exists() and len(path.parts) == 1 and (Path("runs") / path).exists():
        path = Path("runs") / path
    if not path.exists():
        beside = [each.name for each in path.parent.glob("*") if is_run(each)]
        raise CheckpointError(f"{OPTION} {path}: there is no such run{did_you_mean(path.name, beside)}")
    inside = path.absolute().parent if path.is_file() else path.absolute()
    folder = (path.parent if path.is_file() else path).parent if inside.name == CHECKPOINTS else path
    if folder.is_file() or not is_run(folder):
        raise CheckpointError(f"{OPTION} {path}: it is no run of minigpt's")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{OPTION} {path}: {folder} has no {CONFIG}, by which it would go on")
    if path.is_file():
        _check_newest(path, folder)
    return folder


def _check_newest(path: Path, folder: Path) -> None:
    """Refuse an older checkpoint: continuing in place from it would overwrite what came after."""
    steps = step_paths(folder / CHECKPOINTS)
    if steps and not path.samefile(steps[-1]):  # the best one may be another name of it
        raise ConfigError(
            f"{OPTION} {path}: not the newest checkpoint of {folder}, which is {steps[-1].name}: {OPTION} {folder} "
            f"goes on from that one, and --ckpt_path {path} begins a new run from yours"
        )


def _names(folder: Path) -> list[str]:
    """Return run.name and run.root as options, for a run that was renamed or moved since its config was written."""
    from minigpt.cli.yaml_files import load_yaml

    run = load_yaml(folder / CONFIG, named="").get("run")
    if not isinstance(run, dict):  # the defaults would be another experiment
        raise CheckpointError(f"{OPTION} {folder}: its {CONFIG} is empty or cut short, and says not what to go on with")
    name, root = str(run.get("name")), str(run.get("root"))
    whole = folder.resolve()
    if re.fullmatch(re.escape(name) + r"(-\d+)?", whole.name) is None:
        name = whole.name
    if not Path(root).is_dir() or not Path(root).samefile(whole.parent):
        root = str(folder.parent if folder.name == whole.name else whole.parent)
    return [f"--run.name={name}", f"--run.root={root}"]


def _without_agreeing(words: Sequence[str], folder: Path) -> list[str]:
    """Drop options that agree with the run's folder and name; raises ConfigError for one that contradicts."""
    kept: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        option, equals, value = word.partition("=")
        if option not in {*_REFUSED, "--run.name", "--run.root"}:
            kept.append(word)
            continue
        if not equals:
            value = waiting.pop(0) if waiting else ""
        if not _agrees(option, value, folder):
            why = _REFUSED.get(option, "it names the folder")
            raise ConfigError(f"{OPTION} {folder} and {option} {value} do not go together: {why}; leave one out")
    return kept


def _agrees(option: str, value: str, folder: Path) -> bool:
    whole = folder.resolve()
    if option == "--ckpt_path":
        return value == "last"
    if option == "--run.name":
        return value == whole.name
    path = Path(value)
    return path.exists() and path.samefile(whole / CONFIG if option == "--config" else whole.parent)

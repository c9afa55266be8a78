"""One run that is killed again and again: which kills, and what is looked at after each."""

import random
import shutil
import signal
import statistics
from dataclasses import dataclass, field
from pathlib import Path

from kills_child import PURPOSE
from kills_compare import broken_files, checkpoints_of, differences, leftovers
from kills_process import SAVE_EVERY, STEPS, Process, Setting, Straight, Workplace

from minigpt.runs.checkpoint import last_checkpoint, read_checkpoint
from minigpt.runs.paths import step_name

EXIT_CODES = {
    "SIGKILL": {-signal.SIGKILL},
    "SIGTERM": {-signal.SIGTERM, 128 + signal.SIGTERM},
    "SIGINT": {128 + signal.SIGINT},
    "exception": {1},
    "ENOSPC": {1},
}
"""How a process may end that was harmed in each way. A SIGTERM before training has its default effect."""
WAYS = {
    "startup": ("SIGKILL", "SIGTERM", "SIGINT"),
    "prepare": ("SIGKILL", "SIGTERM", "SIGINT", "ENOSPC"),
    "step": ("SIGKILL", "SIGTERM", "SIGINT", "exception"),
    "validation": ("SIGKILL", "SIGTERM", "SIGINT", "exception"),
    "save": ("SIGKILL", "SIGTERM", "SIGINT", "ENOSPC"),
    "rename": ("SIGKILL", "SIGTERM", "SIGINT"),
    "delete": ("SIGKILL", "SIGTERM", "SIGINT"),
    "link": ("SIGKILL", "SIGTERM", "SIGINT"),
    "curves": ("SIGKILL", "ENOSPC"),
    "anytime": ("SIGKILL", "SIGTERM", "SIGINT"),
}
"""Each place, and the ways to be harmed there."""


@dataclass
class Kill:
    """One planned harm, and what came of it."""

    way: str
    place: str
    nth: int | None = None
    """Which moment of the place; None: any one, drawn when the process starts."""
    happened: bool = False
    left: int = 0
    """Step of the newest whole checkpoint afterwards, from which the next process goes on; 0: there is none."""


@dataclass
class Trial:
    """One run, from its start to its last step, with the kills in between."""

    number: int
    setting: Setting
    kills: list[Kill]
    seed: str = "1"
    keep: int = 3
    problems: list[str] = field(default_factory=list)
    """Everything that was not as it must be: empty for a run that is the straight one."""
    resumes: list[float] = field(default_factory=list)
    """Seconds that the resumed processes took from their start to their first step."""


def run_trial(trial: Trial, out: Path, straight: Straight) -> Trial:
    """Kill and resume until the run is finished, then compare it; the folder of a good trial is removed."""
    place = Workplace(out / f"trial-{trial.number:03d}", straight.corpus)
    reference = straight.run(trial.setting)
    longest = 0.8 * statistics.median(straight.seconds)
    rng = random.Random(f"{trial.seed} {trial.number}")
    number = 0
    for number, kill in enumerate(trial.kills):
        if _finished(place.root):  # before the plan was: what is left of it does not happen
            break
        _one_process(trial, kill, f"{number}-{kill.way}-{kill.place}", place, (rng, longest))
    _one_process(trial, None, f"{number + 1}-to-the-end", place, (rng, longest))
    finished = _finished(place.root)
    if len(finished) == 1:
        trial.problems += differences(reference, finished[0], STEPS, to_rounding=trial.setting.regrouped)
        trial.problems += [f"left behind: {path}" for path in leftovers(finished[0])]
    else:
        trial.problems.append(f"{len(finished)} runs reached step {STEPS}")
    if trial.problems:
        (place.folder / "problems.txt").write_text("\n".join(trial.problems) + "\n")
    else:
        shutil.rmtree(place.folder)
    return trial


def _finished(root: Path) -> list[Path]:
    """The runs that have their last checkpoint."""
    return [path.parent.parent for path in checkpoints_of(root) if path.name == step_name(STEPS)]


def _one_process(
    trial: Trial, kill: Kill | None, label: str, place: Workplace, chance: tuple[random.Random, float]
) -> None:
    """Start or resume the run, harmed by `kill` or to its end, and look at what is left.

    `chance`: where random choices come from, and the latest moment of a strike by the clock, in seconds.
    """
    rng, longest = chance
    before = checkpoints_of(place.root)
    words = [f"--run.keep={trial.keep}", f"--data.num_workers={rng.choice([0, 2])}", *trial.setting.regroup(rng)]
    trap = _trap(kill, rng, _newest_step(place.root), trial) if kill else []
    after = rng.uniform(0.1, longest)
    goes_on = ["--ckpt_path=last"] if place.root.exists() else []
    process = place.fit(trial.setting, [*words, *goes_on], label, trap=trap, after=after)
    if goes_on and not process.struck and ("there is no run" in process.stderr or "holds no ch" in process.stderr):
        label += "-anew"  # it was killed before it could say whose folder it is
        process = place.fit(trial.setting, words, label, trap=trap, after=after)
    trial.problems += [f"{label} {' '.join(trap)}: {line}" for line in _look(kill, process, place.root, before)]
    if kill:
        kill.happened = process.struck and process.code in EXIT_CODES[kill.way]
        kill.left = _newest_step(place.root)
    if before and process.resume_seconds is not None:
        trial.resumes.append(process.resume_seconds)


def _look(kill: Kill | None, process: Process, root: Path, before: list[Path]) -> list[str]:
    """What is wrong after a process: its exit code, what it said, what it left."""
    found = broken_files(root)
    if before and not checkpoints_of(root):
        found.append("no checkpoint is left")
    allowed = EXIT_CODES[kill.way] if kill and process.struck else set()
    late: set[int] = {0} if not process.struck or (kill and kill.place in {"anytime", "startup"}) else set()
    if _finished(root):  # while Python takes itself down it no longer turns a Ctrl-C into an exception
        late |= {-signal.SIGINT}
    if process.code not in allowed | late:
        found.append(f"exit code {process.code}")
    deliberate = kill is not None and kill.way == "exception" and PURPOSE in process.stderr
    if "Traceback" in process.stderr and not deliberate:
        found.append(f"a traceback: {process.stderr}")
    if process.resume_seconds is not None:  # it came to training: leftovers are cleared before
        found += [f"left from before: {path}" for path in leftovers(root, but_of=process.pid)]
    return found


def _newest_step(root: Path) -> int:
    """The step that a resume of the run in `root` begins from."""
    newest = [last_checkpoint(path) for path in root.glob("*") if path.is_dir()]
    return max((read_checkpoint(path).step for path in newest if path), default=0)


def _trap(kill: Kill, rng: random.Random, step: int, trial: Trial) -> list[str]:
    """Options of kills_child.py for a moment that the rest of the run will reach, drawn at random.

    The range is such that a chain of kills makes its way through the whole run.
    """
    if kill.place == "anytime":
        return ["anytime", kill.way]
    if kill.place == "startup":
        return ["--place=startup", f"--way={kill.way}", f"--after={rng.uniform(0.05, 4):.3f}"]
    steps = max(1, round((STEPS - step) * 1.5 / len(trial.kills)))
    moments = {
        "prepare": 12,
        "step": 2 * trial.setting.accumulate * steps,
        "validation": 4 * max(1, steps // trial.setting.eval_every),
        "save": 350 * max(1, steps // SAVE_EVERY),  # a checkpoint of this model is some 350 writes
        "rename": 2 * max(1, steps // SAVE_EVERY),
        "delete": 2 * max(1, steps // SAVE_EVERY),
        "link": 2,
        "curves": max(1, steps // 3),
    }
    nth = kill.nth or rng.randint(1, moments[kill.place])
    return [f"--place={kill.place}", f"--way={kill.way}", f"--nth={nth}"]

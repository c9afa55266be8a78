"""Kill `minigpt fit` at random moments, resume it, kill it again: is the finished run the straight one, bit by bit?

    python benchmarks/kills.py [--kills 100] [--seed 1] [--jobs 2] [--out FOLDER]

Each process is a real one. A place is where it is struck (kills_child.py): while it starts, prepares the text, trains a
step, validates, writes a checkpoint, renames it, deletes an old one, links the best one, writes the curves, or at any
moment by the clock. Runs that differ, or that left anything broken behind, stay in FOLDER with the output of each of
their processes; the exit code is then 1.
"""

import argparse
import concurrent.futures
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from kills_process import SAVE_EVERY, SETTINGS, STEPS, Straight, write_corpus
from kills_trial import WAYS, Kill, Trial, run_trial
from report import machine

_COLUMNS = {
    "SIGKILL": "SIGKILL",
    "SIGTERM": "SIGTERM",
    "SIGINT": "Ctrl-C",
    "exception": "exception",
    "ENOSPC": "full disk",
}
_PLACES = {
    "startup": "startup: the first four seconds, by the clock",
    "prepare": "prepare: text into shards, their index",
    "step": "step: before or after a forward pass",
    "validation": "validation: before or after a batch of it",
    "save": "save: in the middle of a write of a checkpoint",
    "rename": "rename: before or after a checkpoint gets its name",
    "delete": "delete: before or after an old one goes",
    "link": "link: before or after best.ckpt is set",
    "curves": "curves: in the middle of a line of metrics.csv",
    "anytime": "anytime, by the clock",
}
_EXPLANATION = f"""\
Each run is a real `minigpt fit`: {STEPS} steps, dropout 0.3, a checkpoint every {SAVE_EVERY} steps, 0 or 2 loader
workers, drawn anew for each process. It is killed, resumed in a new process with `--ckpt_path last`, and killed again,
until it is done. Then it is compared with the run of the same settings that nobody killed: every bit of every tensor
and every number in the last and the best checkpoint (weights, optimizer, loops, losses), each line of metrics.csv, each
point and sample in TensorBoard; left out are the provenance, the number of workers and the tokens per second. After
each kill all checkpoints must be whole, the exit code right, no traceback shown, and nothing half-written left. A kill
is missed if its moment did not come before the end of the run; another one is planned in its place. Compiled is
torch.compile with the backend that runs each graph as it is. Where the accumulation changes, each process adds up the
windows of a step in other groups (batch size times accumulation stays, no dropout): such a run has read the same
windows, and its weights, losses and gradient norms are those of the straight one to rounding."""
_ROUNDS = 5
"""At most so many times more kills are planned in place of those that came too late or too early to happen."""


def plan(kills: int, seed: int, first: int = 0) -> list[Trial]:
    """Chains of 3 to 6 kills, `kills` in all, every way at every place about equally often; SIGKILL twice as often.

    The runs are numbered from `first` on.
    """
    rng = random.Random(seed)
    once = [(way, place) for place, ways in WAYS.items() for way in ways for _ in range(1 + (way == "SIGKILL"))]
    drawn: list[tuple[str, str]] = []
    while len(drawn) < kills:
        drawn += rng.sample(once, len(once))
    drawn = drawn[:kills]
    trials: list[Trial] = []
    while drawn:
        length = rng.randint(3, 6)
        if len(drawn) - length < 3:
            length = len(drawn)
        chain = [Kill(way, place) for way, place in drawn[:length]]
        drawn = drawn[length:]
        # The text is prepared once, at the beginning: later there is nothing to be killed in.
        chain.sort(key=lambda kill: kill.place != "prepare")
        number = first + len(trials)
        trials.append(
            Trial(number, SETTINGS[(number + seed) % len(SETTINGS)], chain, str(seed), keep=rng.choice([1, 3]))
        )
    return trials


def happened(trials: list[Trial]) -> int:
    """How many kills did."""
    return sum(kill.happened for trial in trials for kill in trial.kills)


def summary(trials: list[Trial]) -> str:
    """How many kills and runs there were, and how many runs are identical to their straight one."""
    planned = sum(len(trial.kills) for trial in trials)
    identical = sum(not trial.problems for trial in trials)
    resumes = [seconds for trial in trials for seconds in trial.resumes]
    how_long = f"{statistics.median(resumes):.1f} s (median of {len(resumes)})" if resumes else "-"
    return "\n".join(
        [
            f"- kills: {happened(trials)} happened as planned, of {planned} that were tried",
            f"- runs: {identical} of {len(trials)} the straight one, nothing broken on the way",
            f"- a resume, from the start of its process to its first step: {how_long}",
        ]
    )


def table_of_runs(trials: list[Trial]) -> str:
    """A line for each run: its settings, its kills one after the other, and the verdict."""
    lines = [
        "| run | tokens | accumulation | optimizer | compiled | validation every | keep | kills → step of the newest "
        "whole checkpoint after each | verdict |",
        "|---" * 9 + "|",
    ]
    for trial in trials:
        kills = [
            f"{_COLUMNS[kill.way]} {kill.place} → {kill.left}"
            if kill.happened
            else f"({_COLUMNS[kill.way]} {kill.place}: missed)"
            for kill in trial.kills
        ]
        setting = trial.setting
        cells = [
            trial.number, setting.tokenizer, "changes" if setting.regrouped else setting.accumulate, setting.optimizer,
            "yes" if setting.compiled else "no", setting.eval_every, trial.keep, "; ".join(kills),
            "DIFFERS" if trial.problems else "equal to rounding" if setting.regrouped else "identical",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def table_of_places(trials: list[Trial]) -> str:
    """Kills that happened as planned / kills that were tried, by place and way."""
    kills = [kill for trial in trials for kill in trial.kills]
    lines = [f"| struck while | {' | '.join(_COLUMNS.values())} |", "|---" * (1 + len(_COLUMNS)) + "|"]
    for place in WAYS:
        cells = []
        for way in _COLUMNS:
            chosen = [kill for kill in kills if (kill.way, kill.place) == (way, place)]
            cells.append(f"{sum(kill.happened for kill in chosen)}/{len(chosen)}" if chosen else "")
        lines.append(f"| {_PLACES[place]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run_all(trials: list[Trial], out: Path, straight: Straight, jobs: int) -> None:
    """Run them, `jobs` at a time, and say on stderr how each came out."""
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run_trial, trial, out, straight) for trial in trials]
        for done, future in enumerate(concurrent.futures.as_completed(running), 1):
            trial = future.result()
            verdict = "as the straight one" if not trial.problems else f"DIFFERS, see {out}/trial-{trial.number:03d}"
            seconds = time.perf_counter() - began
            line = (
                f"{done}/{len(trials)} runs, {seconds:.0f} s: run {trial.number}, {happened([trial])} kills: {verdict}"
            )
            print(line, file=sys.stderr, flush=True)
            for problem in trial.problems[:5]:
                print(f"    {problem[:400]}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the trials, print the table; 1 if any run differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="how many have to happen")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--out", type=Path, help="where the runs live; default: a temporary folder")
    arguments = parser.parse_args()
    # A job in the background has Ctrl-C ignored, and so would have all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    out = arguments.out or Path(tempfile.mkdtemp(prefix="kills-"))
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        parser.error(f"{out} is not empty")
    began = time.perf_counter()
    straight = Straight(out, write_corpus(out / "text.txt"))
    trials: list[Trial] = []
    for turn in range(_ROUNDS):
        missing = arguments.kills - happened(trials)
        if missing > 0:
            more = plan(missing, arguments.seed + 1000 * turn, first=len(trials))
            trials += more
            run_all(more, out, straight, arguments.jobs)
    minutes = (time.perf_counter() - began) / 60
    last = f"- the whole took {minutes:.1f} minutes, {arguments.jobs} processes at a time"
    parts = [machine(), _EXPLANATION, f"{summary(trials)}\n{last}", table_of_places(trials), table_of_runs(trials)]
    print("\n\n".join(parts))
    failed = any(trial.problems for trial in trials)
    if not failed and arguments.out is None:
        shutil.rmtree(out)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

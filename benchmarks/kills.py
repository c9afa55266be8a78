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

from kills_process import SETTINGS, Straight, write_corpus
from kills_trial import WAYS, Kill, Trial, run_trial
from report import machine

_COLUMNS = {
    "SIGKILL": "SIGKILL",
    "SIGTERM": "SIGTERM",
    "SIGINT": "Ctrl-C",
    "exception": "exception",
    "ENOSPC": "full disk",
}


def plan(kills: int, seed: int) -> list[Trial]:
    """Chains of 3 to 6 kills, `kills` in all, every way at every place about equally often; SIGKILL twice as often."""
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
        setting = SETTINGS[len(trials) % len(SETTINGS)]
        trials.append(Trial(len(trials), setting, chain, str(seed), keep=rng.choice([1, 3])))
    return trials


def table(trials: list[Trial]) -> str:
    """Kills that happened as planned / kills that were planned, by place and way."""
    kills = [kill for trial in trials for kill in trial.kills]
    lines = [f"| struck while | {' | '.join(_COLUMNS.values())} |", "|---" * (1 + len(_COLUMNS)) + "|"]
    for place in WAYS:
        cells = []
        for way in _COLUMNS:
            chosen = [kill for kill in kills if (kill.way, kill.place) == (way, place)]
            cells.append(f"{sum(kill.happened for kill in chosen)}/{len(chosen)}" if chosen else "")
        lines.append(f"| {place} | {' | '.join(cells)} |")
    identical = sum(not trial.problems for trial in trials)
    resumes = [seconds for trial in trials for seconds in trial.resumes]
    how_long = f"{statistics.median(resumes):.1f} s (median of {len(resumes)})" if resumes else "-"
    return "\n".join(
        [
            *lines,
            "",
            f"- kills: {len(kills)} planned, {sum(kill.happened for kill in kills)} happened as planned",
            f"- runs: {len(trials)}, identical to the straight one and nothing broken on the way: {identical}",
            f"- a resume, from the start of its process to its first step: {how_long}",
        ]
    )


def main() -> int:
    """Run the trials, print the table; 1 if any run differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
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
    trials = plan(arguments.kills, arguments.seed)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        running = [pool.submit(run_trial, trial, out, straight) for trial in trials]
        for done, future in enumerate(concurrent.futures.as_completed(running), 1):
            trial = future.result()
            happened = sum(kill.happened for kill in trial.kills)
            verdict = "identical" if not trial.problems else f"DIFFERS, see {out}/trial-{trial.number:03d}"
            seconds = time.perf_counter() - began
            line = f"{done}/{len(trials)} runs, {seconds:.0f} s: trial {trial.number}, {happened} kills: {verdict}"
            print(line, file=sys.stderr, flush=True)
            for problem in trial.problems[:5]:
                print(f"    {problem[:400]}", file=sys.stderr, flush=True)
    minutes = (time.perf_counter() - began) / 60
    print(
        f"{machine()}\n\n{table(trials)}\n- the whole took {minutes:.1f} minutes, {arguments.jobs} processes at a time"
    )
    failed = any(trial.problems for trial in trials)
    if not failed and arguments.out is None:
        shutil.rmtree(out)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

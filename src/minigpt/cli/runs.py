"""List every run under a folder: its state, age, step, loss and size; and clean up."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from minigpt.cli.options import argument, option
from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.output import as_json, complain, console, echo

if TYPE_CHECKING:
    from minigpt.lab.runs import ListedRun


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which runs, in which order, and what becomes of them."""

    folder: str = argument("FOLDER", "runs")
    """The folder that holds the runs."""
    sort: Literal["loss", "age", "size", "name"] = "age"
    """Lowest, youngest, largest, or by name."""
    where: tuple[str, ...] = option((), "CONDITION")
    """Only these runs: a state (running, waiting, finished, stopped, diverged, failed, damaged), or KEY=VALUE of the
    config."""
    clean: tuple[str, ...] = option((), "STATE")
    """Delete the runs in these states among those of --where; asks first, and never deletes a running one."""
    yes: bool = False
    """With --clean: do not ask."""
    json: bool = False
    """Write one line of JSON instead of a table."""


def run(options: Options) -> int:
    """Print the list, or delete runs; returns 1 if a run could not be deleted, else 0."""
    from minigpt.lab.runs import as_plain, filter_runs, list_runs, runs_table, sort_runs, why_none
    from minigpt.system.tables import say, show

    _check(options)
    every = list_runs(Path(options.folder))
    runs = sort_runs(filter_runs(every, options.where), options.sort)
    if options.clean:
        return _clean([run for run in runs if run.state in options.clean], Path(options.folder), asks=not options.yes)
    if options.json:
        echo(as_json([as_plain(run) for run in runs]))
        return 0
    screen = console()
    if not runs:
        say(
            screen,
            f"no run{' of this kind' if options.where else ''} in {options.folder}{why_none(every, options.where)}",
        )
        return 0
    show(screen, runs_table(runs))
    for each in runs:
        if each.reason:
            say(screen, f"{each.name} {each.state}: {each.reason}")
        if each.note:
            say(screen, f"{each.name}: {each.note}")
    return 0


def _check(options: Options) -> None:
    from minigpt.runs.status import RunState

    states = [state for state in get_args(RunState) if state != "running"]
    for state in options.clean:
        if state == "running":
            raise ConfigError("--clean running: a running run is never deleted; stop it first")
        if state not in states:
            raise ConfigError(f"--clean {state} must be one of {', '.join(states)}{did_you_mean(state, states)}")
    if options.yes and not options.clean:
        raise ConfigError("--yes does nothing without --clean")
    if options.clean and options.json:
        raise ConfigError("--json lists runs: leave out --clean")


def _clean(runs: "list[ListedRun]", root: Path, *, asks: bool) -> int:
    """List the runs to delete, ask, and delete them."""
    from minigpt.lab.clean import remove_leftovers_below, remove_run, why_deleted, why_kept
    from minigpt.lab.runs import runs_table
    from minigpt.system.tables import say, show
    from minigpt.system.units import bytes_text

    screen = console()
    remove_leftovers_below(root)
    kept = [(run, reason) for run in runs if (reason := why_kept(run)) is not None]
    runs = [run for run in runs if why_kept(run) is None]
    code = 1 if kept else 0
    if runs:
        show(screen, runs_table(runs))
        for each in runs:
            say(screen, f"{each.state}: {each.folder}: {why_deleted(each)}")
    for each, reason in kept:
        say(screen, f"kept {each.folder} ({each.state}): {reason}")
    if not runs:
        say(screen, f"nothing to delete in {root}")
        return code
    total = f"{len(runs)} run{'s' * (len(runs) != 1)}, {bytes_text(sum(run.bytes for run in runs))}"
    if asks and not _agreed(f"delete {total} for good? [y/N] "):
        say(screen, "nothing is deleted")
        return code
    for each in runs:
        refusal = remove_run(each)
        code = 1 if refusal else code
        say(screen, f"kept {each.folder}: {refusal}" if refusal else f"deleted {each.folder}")
    return code


def _agreed(question: str) -> bool:
    """Whether the user says yes; raises ConfigError without a terminal."""
    if not sys.stdin.isatty():
        raise ConfigError("--clean cannot ask without a terminal: give --yes to delete the runs listed above")
    complain(question, end="")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}

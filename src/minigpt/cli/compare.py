"""Compare runs: the settings that differ, the results, and which differences are more than chance."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from minigpt.lab.compare.result import By
from minigpt.system.output import as_json, console, echo

if TYPE_CHECKING:
    from rich.console import Console

    from minigpt.lab.compare.result import Comparison

_STYLES = {"better": "green", "worse": "red", "none": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folder or its name under runs/, a sweep's folder, a folder of runs"
    )
    parser.add_argument(
        "--by",
        choices=get_args(By),
        help="value of each run that the verdicts compare (default: final; tokens if a run is not finished)",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="group or run to compare with (default: a sweep's base, else the first run's)",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="folder for the report and its pictures (default: of a sweep, SWEEP/report)"
    )
    parser.add_argument("--json", action="store_true", help="write one line of JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Print the comparison and write the report; returns 0."""
    from minigpt.lab.compare.compare import compare
    from minigpt.lab.compare.report import write_report
    from minigpt.lab.compare.result import as_plain
    from minigpt.lab.compare.sources import located_sweep
    from minigpt.system.tables import say

    comparison = compare(args.runs, by=args.by, baseline=args.baseline)
    sweep = located_sweep(args.runs)
    out = Path(args.out) if args.out else sweep / "report" if sweep else None
    written = write_report(comparison, out) if out else []
    if args.json:
        echo(as_json(as_plain(comparison)))
        return 0
    screen = console()
    show_comparison(screen, comparison)
    if written:
        say(screen, f"report: {written[0]}")
    return 0


def show_comparison(console: "Console", comparison: "Comparison") -> None:
    """Print tables, verdicts and notes."""
    from minigpt.lab.compare.table import SINGLE_GROUP, all_tables, findings, interval_note, undecided_table
    from minigpt.system.tables import say, show

    for table in all_tables(comparison):
        show(console, table)
        say(console)
    for verdict in findings(comparison):
        say(console, verdict.text, style=_STYLES[verdict.claim])
    if rest := undecided_table(comparison):
        say(console)
        show(console, rest)
        say(console)
    if len(comparison.groups) == 1:
        say(console, SINGLE_GROUP)
    if line := interval_note(comparison):
        say(console, line)
    for note in comparison.notes:
        say(console, f"note: {note}")

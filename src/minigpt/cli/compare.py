"""Compare runs: in what they differ, what came out, and which difference is more than chance."""

import argparse
import json
from typing import TYPE_CHECKING, get_args

from minigpt.study.compare_result import By

if TYPE_CHECKING:
    from rich.console import Console

    from minigpt.study.compare_result import Comparison

_STYLES = {"better": "green", "worse": "red", "none": None}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folder or its name under runs/, a sweep's folder, a folder of runs"
    )
    parser.add_argument(
        "--by",
        choices=get_args(By),
        help="value of a run that counts (default: final; tokens if a run is not finished)",
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="group or run to compare with (default: a sweep's base, else the first)"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="folder for report and pictures (default: SWEEP/report of a sweep)"
    )
    parser.add_argument("--json", action="store_true", help="write one line of JSON instead of tables")


def run(args: argparse.Namespace) -> int:
    """Write the comparison to stdout and the report to its folder; gives 0."""
    from minigpt.study.compare import compare
    from minigpt.study.compare_result import as_plain

    comparison = compare(args.runs, by=args.by, baseline=args.baseline)
    if args.json:
        print(json.dumps(as_plain(comparison), allow_nan=False))
    else:
        from rich.console import Console

        show_comparison(Console(), comparison)
    return 0


def show_comparison(console: "Console", comparison: "Comparison") -> None:
    """Tables, verdicts, notes."""
    from minigpt.cli.tables import say, show
    from minigpt.study.compare_table import left_out_table, outcome_table, settings_table

    for table in (settings_table(comparison), outcome_table(comparison), left_out_table(comparison)):
        if table is not None:
            show(console, table)
            say(console)
    for verdict in comparison.verdicts:
        say(console, verdict.text, style=_STYLES[verdict.claim])
    if comparison.verdicts:
        say(console, "±: half of a 95 % interval over the seeds, of each comparison by itself")
    for note in comparison.notes:
        say(console, f"note: {note}")

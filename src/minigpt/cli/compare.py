"""Compare runs: the settings that differ, the results, and which differences are more than chance."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.options import argument, option
from minigpt.lab.compare.result import By
from minigpt.system.output import as_json, console, echo

if TYPE_CHECKING:
    from rich.console import Console

    from minigpt.lab.compare.result import Comparison

_STYLES = {"better": "green", "worse": "red", "higher": "cyan", "lower": "cyan", "none": None}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which runs, by which value, and where the report goes."""

    runs: tuple[str, ...] = argument("RUN")
    """Run folder or its name under runs/, a sweep's folder, a folder of runs."""
    by: By | None = None
    """Value of each run that the verdicts compare (default: final; tokens if a run is not finished)."""
    metric: str | None = option(None, "NAME")
    """Evaluation that the verdicts compare instead of the loss, as eval/Rhymes/share."""
    baseline: str | None = option(None, "NAME")
    """Group or run to compare with (default: a sweep's base, else the first run's)."""
    out: Path | None = option(None, "FOLDER")
    """Folder for the report and its pictures (default: of a sweep, SWEEP/report)."""
    json: bool = False
    """Write one line of JSON instead of tables."""


def run(options: Options) -> int:
    """Print the comparison and write the report; returns 0."""
    from minigpt.lab.compare.compare import compare
    from minigpt.lab.compare.report import write_report
    from minigpt.lab.compare.result import as_plain
    from minigpt.lab.compare.sources import located_sweep
    from minigpt.system.tables import say

    comparison = compare(options.runs, by=options.by, baseline=options.baseline, metric=options.metric)
    sweep = located_sweep(options.runs)
    out = options.out or (sweep / "report" if sweep else None)
    written = write_report(comparison, out) if out else []
    if options.json:
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

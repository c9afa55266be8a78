"""What a long preparation tells the terminal: a bar with a rate, on stderr, if someone is looking."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minigpt.output import console

Progress = Callable[[str, int, int], None]
"""Called as (stage, bytes of text done, bytes in all) now and then."""


@contextmanager
def reporting(progress: Progress | bool) -> Iterator[Progress]:
    """The function to report to: the caller's own, a bar on stderr (True, and stderr is a terminal), or none."""
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _say_nothing


def _say_nothing(stage: str, done: int, total: int) -> None:
    """Nobody is looking."""


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        shown = ""

        def report(stage: str, done: int, total: int) -> None:
            nonlocal shown
            if stage != shown:
                bar.reset(task, description=stage)
                shown = stage
            bar.update(task, description=stage, completed=done, total=total)

        yield report

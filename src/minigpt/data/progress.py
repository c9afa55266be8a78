"""Progress of a long preparation: a bar with a rate on stderr, if that is a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minigpt.system.output import console
from minigpt.system.units import bytes_text

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
        yield ignore_progress


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def _bar() -> Iterator[Progress]:
    from minigpt.system.status_bar import StatusBar, left_text

    bar = StatusBar(console(stderr=True), transient=True)
    shown, began = "", 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal shown, began
        if stage != shown:
            shown, began = stage, time.monotonic()
        elif not bar.due():
            return
        seconds = time.monotonic() - began
        rate = [f"{bytes_text(done / seconds)}/s"] if done and seconds else []
        bar.show(
            done,
            total,
            head=f"{stage}  {bytes_text(done)} of {bytes_text(total)}" if total else stage,
            parts=rate,
            tail=left_text(done, total, seconds) if total else "",
        )

    bar.start()
    try:
        yield report
    finally:
        bar.stop()

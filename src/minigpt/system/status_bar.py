"""One line of a terminal that says how far a long piece of work is: what must be read stays, the rest where it fits."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from minigpt.system.units import clock_text, count_text

_GAP = "  "
_SHORTEST_BAR, _LONGEST_BAR = 8, 40
"""Columns: a shorter bar says nothing, a longer one no more."""
_REFRESH_SECONDS = 0.2


def fitted(head: str, parts: Sequence[str], tail: str, width: int | None) -> str:
    """`head`, as many of `parts` as fit beside it, and `tail`, in a line of `width` columns; None: all of them."""
    kept = list(parts)
    while kept and width is not None and len(_GAP.join([head, *kept, tail])) > width:
        kept.pop()
    return _GAP.join(filter(None, [head, *kept, tail]))


def left_text(done: float, total: float, seconds: float) -> str:
    """What is left if the rest takes as long as what was done in `seconds`; empty: nothing was done yet."""
    return f"{clock_text(seconds / done * (total - done))} left" if done > 0 else ""


def shows_bars(console: Console) -> bool:
    """Whether a bar can be drawn: on a terminal, and in a notebook, where it is updated in place."""
    return not console.quiet and (console.is_terminal or console.is_jupyter)


class _NotebookLine:
    """A line of a notebook's output that is updated in place, as rich's Live is on a terminal; needs no ipywidgets."""

    def __init__(self, console: Console, transient: bool) -> None:
        self._console = console
        self._transient = transient

    def start(self) -> None:
        """Add an empty output to the cell."""
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def update(self, line: RenderableType, *, refresh: bool) -> None:  # noqa: ARG002
        """Show `line` in place of what was shown."""
        buffer = Console(file=io.StringIO(), width=self._console.width, force_jupyter=False, record=True)
        buffer.print(line)
        html = buffer.export_html(inline_styles=True, code_format=_HTML, clear=False)
        self._handle.update({"text/html": html, "text/plain": buffer.export_text().rstrip()}, raw=True)

    def stop(self) -> None:
        """Leave the line, or clear it."""
        if self._transient:
            self._handle.update({"text/plain": ""}, raw=True)


_HTML = '<pre style="white-space: pre; line-height: normal">{code}</pre>'


class StatusBar:
    """The line itself, drawn when `show` is called: no thread works beside training."""

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        """`transient`: the line is taken away at the end."""
        self._console = console
        self._live: Live | _NotebookLine
        if console.is_jupyter:
            self._live = _NotebookLine(console, transient)
        else:
            self._live = Live(console=console, auto_refresh=False, transient=transient)
        self._shown = 0.0

    def start(self) -> None:
        """Keep a line of the terminal: what else is printed stands above it."""
        self._live.start()

    def stop(self) -> None:
        """Leave the line as it was last shown, or take it away."""
        self._live.stop()

    def due(self) -> bool:
        """Whether the last drawing is long enough ago."""
        return time.monotonic() - self._shown >= _REFRESH_SECONDS

    def show(self, done: float, total: float, *, head: str, parts: Sequence[str] = (), tail: str = "") -> None:
        """Draw `head`, a bar, `parts` and `tail`. Where the terminal is narrow the bar gives way first, then `parts`
        from the last one."""
        self._shown = time.monotonic()
        width = self._console.width
        line = fitted(head, parts, tail, width)
        room = width - len(line) - len(_GAP)
        if room < _SHORTEST_BAR or not total:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
            return
        row = Table.grid()
        bar = ProgressBar(total=total, completed=done, width=min(room, _LONGEST_BAR))
        row.add_row(Text(head + _GAP), bar, Text(line.removeprefix(head)))
        self._live.update(row, refresh=True)


@contextlib.contextmanager
def status_bar(console: Console, what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar for a simple count, on a terminal or in a notebook: `validating  12.3k of 98.7k tokens  3 s left`.

    Gives the function that is told how many more are done; the bar is taken away at the end.
    """
    bar, done, began = StatusBar(console, transient=True), 0, time.monotonic()

    def draw() -> None:
        head = f"{what}  {count_text(done)} of {count_text(total)} {unit}"
        bar.show(done, total, head=head, tail=left_text(done, total, time.monotonic() - began))

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if shows_bars(console) and bar.due():
            draw()

    if not shows_bars(console):
        yield advance
        return
    bar.start()
    try:
        draw()
        yield advance
    finally:
        bar.stop()

"""A table as data, and as plain text that no pipe cuts."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from minigpt.errors import printable


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of text under named columns."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]]
    numbers: frozenset[str] = field(default_factory=frozenset)
    """The columns that are aligned on the right."""
    emphasised: frozenset[int] = field(default_factory=frozenset)
    """The rows that a picture or a terminal may bring out, by position."""

    def plain(self) -> str:
        """Lines of text: columns two spaces apart, nothing cut, no colour, no spaces at the ends of lines."""
        rows = [list(self.columns), *([printable(cell) for cell in row] for row in self.rows)]
        widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
        lines = [self.title] if self.title else []
        for row in rows:
            cells = [
                _padded(cell, width, right=name in self.numbers)
                for cell, width, name in zip(row, widths, self.columns, strict=True)
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal: wide letters take two, accents of their own none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def _padded(text: str, width: int, *, right: bool) -> str:
    spaces = " " * (width - display_width(text))
    return spaces + text if right else text + spaces


def short(number: float) -> str:
    """In three digits: `874`, `52.1k`, `1.31M`, `4.2e+15`."""
    value, unit = _scaled(number)
    return f"{value:.3g}{unit}"


def size(n_bytes: float) -> str:
    """`874 B`, `33.9 MB`, in powers of 1000."""
    value, unit = _scaled(n_bytes)
    return f"{value:.3g} {unit}B"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`, `5 days`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _scaled(number: float) -> tuple[float, str]:
    """`52_140` -> `(52.1, "k")`: rounded to three digits first, so that no 999,999 becomes 1000k."""
    rounded = float(f"{number:.3g}")
    for power, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if power <= abs(rounded) < 1e15:
            return rounded / power, letter
    return rounded, ""

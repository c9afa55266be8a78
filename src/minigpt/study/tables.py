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
    for size, letter in ((1e15, ""), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}" if letter else f"{number:.3g}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`, `5 days`."""
    for size, unit, digits in ((86400 * 2, "days", 0), (3600, "h", 1), (60, "min", 0)):
        if seconds >= size:
            return f"{seconds / (86400 if unit == 'days' else size):.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """`11 MB`, in powers of 1000."""
    return f"{short(n_bytes)}B" if n_bytes < 1e3 else f"{short(n_bytes)[:-1]} {short(n_bytes)[-1]}B"

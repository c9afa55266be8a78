"""A table as data, and as plain text that no pipe cuts."""

import unicodedata
from collections.abc import Collection, Sequence
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
        right = {place for place, name in enumerate(self.columns) if name in self.numbers}
        return "\n".join([*([self.title] if self.title else []), *columns_text(rows, right)])


def columns_text(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """A line a row, the columns two spaces apart, those numbered in `right` aligned on the right."""
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            _padded(cell, width, right=place in right)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal: wide letters take two, accents of their own none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def _padded(text: str, width: int, *, right: bool) -> str:
    spaces = " " * (width - display_width(text))
    return spaces + text if right else text + spaces

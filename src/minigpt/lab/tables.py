"""A table as data, as plain text that no pipe cuts, and in parts that a narrow terminal has room for."""

import re
import textwrap
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from minigpt.errors import printable


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of text under named columns."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]]
    numbers: frozenset[str] = field(default_factory=frozenset)
    """The columns that are aligned on the right, and whose cells never go on in the next line."""
    prose: frozenset[str] = field(default_factory=frozenset)
    """The columns of sentences, which may go on in the next line."""
    reads_down: bool = False
    """Whether a column is read from top to bottom, one value against the other: a narrow terminal gets a few columns at
    a time then, and else each row in several lines."""
    emphasised: frozenset[int] = field(default_factory=frozenset)
    """The rows that a picture or a terminal may bring out, by position."""

    def __repr__(self) -> str:
        """As text."""
        return self.plain()

    def plain(self) -> str:
        """Lines of text: columns two spaces apart, nothing cut, no colour, no spaces at the ends of lines."""
        rows = [list(self.columns), *([printable(cell) for cell in row] for row in self.rows)]
        right = {place for place, name in enumerate(self.columns) if name in self.numbers}
        return "\n".join([*([self.title] if self.title else []), *columns_text(rows, right)])

    def widths(self) -> list[int]:
        """Of each column, the room that it needs; a sentence can do with little, but for its longest word."""
        needed = [
            max(map(display_width, (name, *(printable(row[place]) for row in self.rows))))
            for place, name in enumerate(self.columns)
        ]
        words = [
            max((display_width(word) for row in self.rows for word in row[place].split()), default=0)
            for place in range(len(self.columns))
        ]
        return [
            min(width, max(_SENTENCE, display_width(name), word)) if name in self.prose else width
            for name, width, word in zip(self.columns, needed, words, strict=True)
        ]

    def fits(self, room: int) -> bool:
        """Whether it is no wider than `room`."""
        return sum(self.widths()) + GAP * (len(self.columns) - 1) <= room

    def blocks(self, room: int) -> "list[Table]":
        """The columns in several tables of the width `room` at most, each with the first column again.

        Where that one takes more than half of the room, its cells are numbered, and a first table says what they are. A
        column that is too wide all by itself has a table to itself.
        """
        if self.widths()[0] > room * _NAMES_SHARE:
            numbers = [str(number) for number in range(1, len(self.rows) + 1)]
            names = [(number, row[0]) for number, row in zip(numbers, self.rows, strict=True)]
            legend = replace(self, columns=("#", self.columns[0]), rows=list(names), prose=frozenset(self.columns[:1]))
            numbered = [(number, *row[1:]) for number, row in zip(numbers, self.rows, strict=True)]
            rest = replace(self, title="", columns=("#", *self.columns[1:]), rows=list(numbered))
            return [legend, *rest.blocks(room)]
        rows = [list(self.columns), *([printable(cell) for cell in row] for row in self.rows)]
        return [
            replace(self, title="" if number else self.title, columns=block[0], rows=block[1:])
            for number, block in enumerate(folded(rows, room, keys=1))
        ]


GAP = 2
"""Columns of a terminal between two columns of a table."""
_SENTENCE = 30
"""Columns of a terminal in which a sentence can still be read."""
_NAMES_SHARE = 0.5
_NUMBER = re.compile(r" ([±=<]) ")
"""Signs that no line ends or begins with: what stands beside them is one number."""
_COMMAND = re.compile(r"(\bminigpt|--[a-z_][\w.]*) (?=[^\s-])")
"""Words that belong to the next one."""


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


def folded(rows: Sequence[Sequence[str]], width: int | None, *, keys: int) -> list[list[Sequence[str]]]:
    """The table as tables of at most `width` columns of a terminal (None: no limit), side by side in thought.

    Each begins with the first `keys` cells of every row and has one more at least, so no cell is ever broken.
    """
    widths = [max(map(display_width, column)) + GAP for column in zip(*rows, strict=True)]
    groups: list[list[int]] = [[]]
    for place in range(keys, len(widths)):
        used = sum(widths[:keys]) + sum(widths[other] for other in groups[-1])
        if width is not None and groups[-1] and used + widths[place] - GAP > width:
            groups.append([])
        groups[-1].append(place)
    return [[[*row[:keys], *(row[place] for place in group)] for row in rows] for group in groups]


def hanging(label: str, text: str, width: int | None) -> list[str]:
    """`label` and `text` as lines of at most `width` columns (None: as one), broken between words below the text."""
    if width is None:
        return [label + text]
    return wrapped(text, width, first=label, rest=" " * len(label))


def wrapped(line: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """`line` in lines of `width` letters at most, which begin with `first` and `rest`.

    A longer word stays whole: a path or an option is for pasting. So do an option with its value, a command with its
    name, and `1.93 ± 0.02`.
    """
    tied = _COMMAND.sub("\\1\u00a0", _NUMBER.sub("\u00a0\\1\u00a0", line))
    parts = textwrap.wrap(
        tied, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return [part.replace("\u00a0", " ") for part in parts]


def display_width(text: str) -> int:
    """Columns that `text` takes on a terminal: wide letters take two, accents of their own none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def _padded(text: str, width: int, *, right: bool) -> str:
    spaces = " " * (width - display_width(text))
    return spaces + text if right else text + spaces

"""Tables of text: plain lines for a pipe, rich's tables for a terminal, in several parts where it is narrow."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from minigpt.errors import printable
from minigpt.system.output import console

_GAP = 2
"""Terminal columns between two columns of a table, and at its edges together."""
_UNLIMITED = 1_000_000
_INDENT = "  "
_SENTENCE = 30
"""Terminal columns in which a sentence can still be read."""
_NAMES_SHARE = 0.5
_NUMBER = re.compile(r" ([±=<]) ")
"""Signs that no line ends or begins with: what stands beside them is one number."""
_COMMAND = re.compile(r"(\bminigpt|--[a-z_][\w.]*) (?=[^\s-])")
"""Words that belong to the next one."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells of text under named columns."""

    title: str = ""
    columns: Sequence[str]
    rows: list[Sequence[str]]
    numbers: frozenset[str] = field(default_factory=frozenset)
    """Columns that are aligned on the right, and whose cells are never wrapped."""
    prose: frozenset[str] = field(default_factory=frozenset)
    """Columns of sentences, which may be wrapped."""
    keys: int = 1
    """How many of the first columns name the row: each part of a table that is too wide begins with them."""
    reads_down: bool = False
    """Whether values are compared down a column. Where the table is too wide, it is then split by columns, and
    otherwise each row takes several lines."""
    emphasised: frozenset[int] = field(default_factory=frozenset)
    """Positions of the rows that are shown bold."""

    def __repr__(self) -> str:
        """As plain text."""
        return self.plain()

    def plain(self) -> str:
        """Lines of text: columns two spaces apart, nothing cut, no colour, no spaces at the ends of lines."""
        screen = console()
        options = screen.options.update(width=_UNLIMITED)
        rendered = screen.render_lines(_rich(replace(self, title=""), None), options, pad=False)
        lines = ["".join(segment.text for segment in line).rstrip() for line in rendered]
        return "\n".join([*([self.title] if self.title else []), *lines])

    def fits(self, room: int) -> bool:
        """Whether it is no wider than `room`."""
        return sum(self._widths()) + _GAP * (len(self.columns) - 1) <= room

    def blocks(self, room: int) -> "list[Table]":
        """Split the columns into tables of the width `room` at most, each with the key columns again.

        Where a single key takes more than half of the room, its cells are numbered, and a first table says what they
        are. A column that is too wide all by itself has a table to itself.
        """
        widths, keys = self._widths(), range(self.keys)
        if self.keys == 1 and widths[0] > room * _NAMES_SHARE:
            numbered = [(str(number), row) for number, row in enumerate(self.rows, 1)]
            names = replace(
                self, columns=("#", self.columns[0]), rows=[(number, row[0]) for number, row in numbered],
                prose=frozenset(self.columns[:1]),
            )  # fmt: skip
            rows: list[Sequence[str]] = [(number, *row[1:]) for number, row in numbered]
            return [names, *replace(self, title="", columns=("#", *self.columns[1:]), rows=rows).blocks(room)]
        groups: list[list[int]] = [[]]
        for place in range(self.keys, len(widths)):
            used = sum(widths[other] + _GAP for other in (*keys, *groups[-1]))
            if groups[-1] and used + widths[place] > room:
                groups.append([])
            groups[-1].append(place)
        return [
            replace(self._part([*keys, *group]), title="" if number else self.title)
            for number, group in enumerate(groups)
        ]

    def _part(self, places: Sequence[int]) -> "Table":
        """Some of the columns."""
        columns, *rows = ([row[place] for place in places] for row in (self.columns, *self.rows))
        return replace(self, columns=columns, rows=list(rows))

    def _widths(self) -> list[int]:
        """The room that each column needs; a sentence can do with little, but for its longest word."""
        widths = []
        for name, *cells in zip(self.columns, *self.rows, strict=True):
            texts = [name, *map(printable, cells)]
            width = max(map(cell_len, texts))
            if name in self.prose:
                words = [word for text in texts[1:] for word in text.split()]
                width = min(width, max(_SENTENCE, cell_len(name), *map(cell_len, words)))
            widths.append(width)
        return widths


def show(screen: Console, table: Table) -> None:
    """Print `table`; no cell is ever cut, and no number is wrapped.

    In a terminal that is too narrow for it, it is printed in several parts.
    """
    if not screen.is_terminal:
        screen.print(table.plain(), highlight=False, markup=False, soft_wrap=True)
        return
    room = screen.width - _GAP
    if table.fits(room):
        screen.print(_rich(table, SIMPLE_HEAD))
        return
    beside = table._part([place for place, name in enumerate(table.columns) if place and name not in table.prose])
    if table.reads_down or not beside.fits(screen.width - len(_INDENT)):
        for block in table.blocks(room):
            screen.print(_rich(block, SIMPLE_HEAD))
        return
    for line, style in _stacked(table, beside, screen.width):
        screen.print(Text(line, style=style), soft_wrap=True)


def say(screen: Console, line: str = "", style: str | None = None, *, label: str = "") -> None:
    """Print `label` and `line`: as one line into a pipe, in a terminal wrapped between words, below the label."""
    line = printable(line)
    wrap = screen.is_terminal and line
    text = "\n".join(wrapped(line, screen.width, label=label)) if wrap else label + line
    screen.print(Text(text, style=style or ""), soft_wrap=True)


def wrapped(line: str, width: int, *, label: str = "") -> list[str]:
    """Break `line` into lines of `width` columns at most, the first after `label`, the others indented by as much.

    A longer word stays whole: a path or an option is for pasting. So do an option with its value, a command with its
    name, and `1.93 ± 0.02`.
    """
    tied = _COMMAND.sub("\\1\u00a0", _NUMBER.sub("\u00a0\\1\u00a0", line))
    parts = textwrap.wrap(
        tied,
        width,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [part.replace("\u00a0", " ") for part in parts]


def _rich(table: Table, box: Box | None) -> RichTable:
    rich = RichTable(
        title=table.title or None,
        title_justify="left",
        title_style="bold",
        box=box,
        pad_edge=False,
        collapse_padding=box is not None,
    )
    for place, name in enumerate(table.columns):
        number = name in table.numbers
        whole = number or box is None or (place < table.keys and name not in table.prose)
        rich.add_column(Text(name), justify="right" if number else "left", overflow="fold", no_wrap=whole)
    for position, row in enumerate(table.rows):
        style = "bold" if position in table.emphasised else None
        rich.add_row(*(Text(printable(cell)) for cell in row), style=style)
    return rich


def _stacked(table: Table, beside: Table, width: int) -> Iterator[tuple[str, str]]:
    """Lines with their styles: of each row its name, below it the columns of `beside`, below these the sentences."""
    if table.title:
        yield table.title, "bold"
    lines = replace(beside, title="").plain().split("\n") if beside.columns else [""] * (len(table.rows) + 1)
    sentences = [place for place, name in enumerate(table.columns) if place and name in table.prose]
    for number, (row, line) in enumerate(zip((table.columns, *table.rows), lines, strict=True)):
        style = "bold" if number - 1 in table.emphasised or not number else ""
        yield printable(row[0]), style
        if line:
            yield f"{_INDENT}{line}", style
        for place in sentences:
            for part in wrapped(printable(row[place]), width - len(_INDENT)):
                yield f"{_INDENT}{part}", style

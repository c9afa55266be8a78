"""Tables on the terminal: with lines and colours where a person looks, as plain text where a program reads."""

from collections.abc import Iterator
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from minigpt.errors import printable
from minigpt.lab.tables import Table, columns_text, wrapped

_EDGES = 2
"""Columns that the box takes on both sides together."""
_INDENT = "  "


def show(console: Console, table: Table) -> None:
    """Write `table`; no cell is ever cut, and no number goes on in the next line.

    In a terminal that is too narrow for it, it is written in several parts.
    """
    if not console.is_terminal:
        console.print(table.plain(), highlight=False, markup=False, soft_wrap=True)
        return
    room = console.width - _EDGES
    if table.fits(room):
        console.print(_rich(table))
        return
    rest = _beside(table)
    if table.reads_down or not rest.fits(console.width - len(_INDENT)):
        for block in table.blocks(room):
            console.print(_rich(block))
        return
    for line, style in _stacked(table, rest, console.width):
        console.print(Text(line, style=style), soft_wrap=True)


def say(console: Console, line: str = "", style: str | None = None) -> None:
    """One line, as it is: in a pipe it is not wrapped, in a terminal at words."""
    line = printable(line)
    if console.is_terminal:
        line = "\n".join(wrapped(line, console.width)) if line else ""
    console.print(Text(line, style=style or ""), soft_wrap=True)


def _rich(table: Table) -> RichTable:
    rich = RichTable(
        title=table.title or None,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for place, name in enumerate(table.columns):
        number = name in table.numbers
        whole = number or (place == 0 and name not in table.prose)
        rich.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=whole)
    for position, row in enumerate(table.rows):
        style = "bold" if position in table.emphasised else None
        rich.add_row(*(Text(printable(cell)) for cell in row), style=style)
    return rich


def _beside(table: Table) -> Table:
    """The columns that stand in one line below the name of a row: all but the first and the sentences."""
    places = [place for place, name in enumerate(table.columns) if place and name not in table.prose]
    columns, *rows = ([row[place] for place in places] for row in (table.columns, *table.rows))
    return replace(table, columns=columns, rows=list(rows))


def _stacked(table: Table, rest: Table, width: int) -> Iterator[tuple[str, str]]:
    """Lines with their styles: of each row its name, what stands in `rest` below it, and the sentences below that."""
    if table.title:
        yield table.title, "bold"
    right = {place for place, name in enumerate(rest.columns) if name in table.numbers}
    cells = [list(rest.columns), *([printable(cell) for cell in row] for row in rest.rows)]
    lines = columns_text(cells, right) if rest.columns else [""] * len(cells)
    sentences = [place for place, name in enumerate(table.columns) if place and name in table.prose]
    for number, (row, line) in enumerate(zip((table.columns, *table.rows), lines, strict=True)):
        style = "bold" if number - 1 in table.emphasised or not number else ""
        yield printable(row[0]), style
        if line:
            yield f"{_INDENT}{line}", style
        for place in sentences:
            for part in wrapped(printable(row[place]), width - len(_INDENT)):
                yield f"{_INDENT}{part}", style

"""Tables on the terminal: with lines and colours where a person looks, as plain text where a program reads."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from minigpt.errors import printable
from minigpt.study.tables import Table


def show(console: Console, table: Table) -> None:
    """Write `table`; no cell is ever cut, long ones go on in the next line."""
    if not console.is_terminal:
        console.print(table.plain(), highlight=False, markup=False, soft_wrap=True)
        return
    rich = RichTable(
        title=table.title or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for column in table.columns:
        rich.add_column(column, justify="right" if column in table.numbers else "left", overflow="fold")
    for position, row in enumerate(table.rows):
        style = "bold" if position in table.emphasised else None
        rich.add_row(*(Text(printable(cell)) for cell in row), style=style)
    console.print(rich)


def say(console: Console, line: str = "", style: str | None = None) -> None:
    """One line, as it is: in a pipe it is not wrapped, in a terminal at words."""
    console.print(Text(printable(line), style=style or ""), soft_wrap=not console.is_terminal)

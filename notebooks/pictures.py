"""What the pictures of the notebooks share: a look, token labels, and a text whose tokens are coloured."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minigpt.data.visible import token_texts

__all__ = ["PALE", "label_tokens", "style", "token_picture", "token_texts"]

PALE = ("#cfe3f5", "#fbe0c3", "#d5ecd0", "#ecd9f0")
"""Four light colours that neighbouring tokens take in turn."""
LETTER_WIDTH = 0.602  # of DejaVu Sans Mono, matplotlib's own fixed-width font, in units of its size
ROW_HEIGHT = 1.65  # of a line of text, in units of the letter size

Coloured = tuple[Sequence[str], Sequence[object]]


def style() -> None:
    """One look for all pictures; moderate resolution keeps a notebook's file small."""
    mpl.rcParams.update(
        {
            "figure.dpi": 88,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "image.interpolation": "nearest",
        }
    )


def label_tokens(ax: Axes, texts: Sequence[str]) -> None:
    """Tokens along both sides of an attention map: keys below, queries on the left."""
    ax.set_xticks(range(len(texts)), texts, rotation=90, family="monospace", fontsize=8)
    ax.set_yticks(range(len(texts)), texts, family="monospace", fontsize=8)
    ax.set(xlabel="key: the token that is read", ylabel="query: the token that reads")


def token_picture(
    parts: Mapping[str, Coloured],
    *,
    columns: int = 92,
    width: float = 9.0,
    scale: ScalarMappable | None = None,
    scale_label: str = "",
) -> Figure:
    """Texts as rows of coloured boxes, one for each token: title -> (token texts, their colours).

    A row ends behind ↵, also inside a token, and where `columns` letters are full. `scale` says what the colours mean.
    """
    boxes = {title: _lay_out(texts, colours, columns) for title, (texts, colours) in parts.items()}
    rows = [boxes[title][-1].row + 1 for title in parts]
    size = width * 72 / columns / LETTER_WIDTH  # points
    row_inches = size * ROW_HEIGHT / 72
    title_inches, scale_inches = 0.34, 0.62 if scale else 0.0
    height = sum(rows) * row_inches + len(rows) * title_inches + scale_inches
    # Letters and boxes must fit each other, so all is placed by hand.
    fig = plt.figure(figsize=(width, height), layout="none")
    top = height
    for n_rows, (title, placed) in zip(rows, boxes.items(), strict=True):
        top -= title_inches + n_rows * row_inches
        ax = fig.add_axes((0, top / height, 1, n_rows * row_inches / height))
        ax.set(xlim=(0, columns), ylim=(n_rows, 0))
        ax.set_title(title, loc="left")
        ax.axis("off")
        for text, colour, row, column in placed:
            ax.add_patch(Rectangle((column + 0.05, row + 0.06), len(text) - 0.1, 0.88, color=colour, lw=0))
            ax.text(column, row + 0.53, text, family="monospace", fontsize=size, va="center")
    if scale:
        bar = fig.add_axes((0.3, 0.42 / height, 0.4, 0.1 / height))
        fig.colorbar(scale, cax=bar, orientation="horizontal", label=scale_label)
    return fig


class _Box(NamedTuple):
    text: str
    colour: object
    row: int
    column: int


def _lay_out(texts: Sequence[str], colours: Sequence[object], columns: int) -> list[_Box]:
    boxes = []
    row = column = 0
    for text, colour in zip(texts, colours, strict=True):
        for part in text.replace("↵", "↵\n").splitlines():
            if column and column + len(part) > columns:
                row, column = row + 1, 0
            boxes.append(_Box(part, colour, row, column))
            column += len(part)
            if part.endswith("↵"):
                row, column = row + 1, 0
    return boxes

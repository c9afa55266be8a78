"""What the pictures of the notebooks share: a look, token labels, and a text whose tokens are coloured."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minigpt.text.tokenizers import Tokenizer

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


def token_texts(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    """Each token as something to see: spaces as ␣, line ends as ↵, bytes that are no character as hex."""
    return [_visible(tokenizer.decode_bytes([token])) for token in ids]


def _visible(spelt: bytes) -> str:
    if not spelt:
        return "‹end›"
    try:
        text = spelt.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"‹{byte:02x}›" for byte in spelt)
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")


def label_tokens(ax: Axes, texts: Sequence[str]) -> None:
    """Tokens along both sides of an attention map: keys below, queries on the left."""
    ax.set_xticks(range(len(texts)), texts, rotation=90, family="monospace", fontsize=8)
    ax.set_yticks(range(len(texts)), texts, family="monospace", fontsize=8)
    ax.set(xlabel="key: the token that is read", ylabel="query: the token that reads")


def token_picture(parts: Mapping[str, Coloured], *, width: float = 9.0, columns: int = 92) -> Figure:
    """Texts as rows of coloured boxes, one for each token: title -> (token texts, their colours).

    A line ends after a token with ↵, and where `columns` letters are full.
    """
    size = width * 72 / columns / LETTER_WIDTH  # points
    places = {title: _lay_out(texts, columns) for title, (texts, _) in parts.items()}
    rows = [places[title][-1][0] + 1 for title in parts]
    height = sum(rows) * size * ROW_HEIGHT / 72 + 0.36 * len(rows)
    fig, axes = plt.subplots(
        len(rows), 1, figsize=(width, height), height_ratios=rows, squeeze=False, layout="constrained"
    )
    for ax, n_rows, (title, (texts, colours)) in zip(axes[:, 0], rows, parts.items(), strict=True):
        ax.set(xlim=(0, columns), ylim=(n_rows, 0))
        ax.set_title(title, loc="left")
        ax.axis("off")
        for text, colour, (row, column) in zip(texts, colours, places[title], strict=True):
            ax.add_patch(Rectangle((column + 0.05, row + 0.06), len(text) - 0.1, 0.88, color=colour, lw=0))
            ink = "black" if sum(to_rgb(colour)) > 1.4 else "white"
            ax.text(column, row + 0.53, text, family="monospace", fontsize=size, va="center", color=ink)
    return fig


def _lay_out(texts: Sequence[str], columns: int) -> list[tuple[int, int]]:
    """(row, column) of each token."""
    places = []
    row = column = 0
    for text in texts:
        if column and column + len(text) > columns:
            row, column = row + 1, 0
        places.append((row, column))
        column += len(text)
        if text.endswith("↵"):
            row, column = row + 1, 0
    return places

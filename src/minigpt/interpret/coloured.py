"""Text coloured by how likely the model found it: for a notebook, for a terminal, and plain for a file or a pipe."""

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minigpt.system.output import symbols


class Level(NamedTuple):
    """How a text looks from a probability on."""

    least: float
    background: str
    """In HTML, pale enough for black letters."""
    ansi: str
    """Select Graphic Rendition of a terminal, from the 16 colours that every theme has (ECMA-48, 8.3.117)."""


LEVELS = (
    Level(0.5, "#d3ecd0", "32"),  # green
    Level(0.1, "#f6f2c3", "33"),  # yellow
    Level(0.01, "#fbd6a6", "35"),  # magenta
    Level(0.0, "#f5a49b", "31"),  # red
)
"""From expected to surprising."""
UNKNOWN = Level(0.0, "#e4e4e4", "0")
"""Of the first token, which nothing precedes."""

Scored = tuple[str, float | None, Sequence[tuple[str, float]]]
"""Text, probability, and the alternatives with theirs."""


def level_of(probability: float | None) -> Level:
    """The colours of a probability."""
    if probability is None:
        return UNKNOWN
    return next((level for level in LEVELS if probability >= level.least), LEVELS[-1])


def percent(probability: float) -> str:
    """As a reader wants it: 93, 4, 0.2, <0.1."""
    value = 100 * probability
    if value >= 1:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.1 else "<0.1"


def in_terminal(text: str, probability: float | None) -> str:
    """`text` between the escape sequences of its colour; each line by itself, as pagers want it.

    What the text itself holds of control characters is shown as symbols.
    """
    on, off = f"\x1b[{level_of(probability).ansi}m", "\x1b[0m"
    return "\n".join(f"{on}{line}{off}" if line else "" for line in symbols(text).split("\n"))


def marked(text: str, probability: float | None) -> str:
    """`text` with its probability in percent behind it: `class{93}`."""
    return text if probability is None else f"{text}{{{percent(probability)}}}"


def legend() -> str:
    """What a terminal's colours mean, in them."""
    names = [f"from {percent(level.least)} %" for level in LEVELS[:-1]] + ["less"]
    return ", ".join(f"\x1b[{level.ansi}m{name}\x1b[0m" for level, name in zip(LEVELS, names, strict=True))


def to_html(tokens: Iterable[Scored]) -> str:
    """One block of coloured tokens; the pointer over one shows its probability and the alternatives."""
    spans = [_span(text, probability, alternatives) for text, probability, alternatives in tokens]
    style = "font-family: monospace; line-height: 1.7; white-space: pre-wrap"
    return f'<div style="{style}">{"".join(spans)}</div>'


def _span(text: str, probability: float | None, alternatives: Sequence[tuple[str, float]]) -> str:
    lines = [] if probability is None else [f"{text}  {percent(probability)} %"]
    if alternatives:
        lines += ["", *(f"{each}  {percent(chance)} %" for each, chance in alternatives)]
    title = html.escape("\n".join(lines), quote=True).replace("\n", "&#10;")
    style = f"background: {level_of(probability).background}; color: #111; padding: 1px 0; border-radius: 2px"
    shown = html.escape(text).replace("↵", "↵<br>")
    return f'<span style="{style}" title="{title}">{shown}</span>'

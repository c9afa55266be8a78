"""Text coloured by its probability: as HTML for a notebook, in ANSI colours for a terminal, and plain."""

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minigpt.system.output import symbols


class Level(NamedTuple):
    """Colours of a range of probabilities."""

    least: float
    """Lower end of the range."""
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
"""From likely to unlikely."""
UNKNOWN = Level(0.0, "#e4e4e4", "0")
"""For the first token, which has no probability."""

Scored = tuple[str, float | None, Sequence[tuple[str, float]]]
"""Text, probability, and the alternatives with theirs."""


def level_of(probability: float | None) -> Level:
    """Return the colours of a probability."""
    if probability is None:
        return UNKNOWN
    return next((level for level in LEVELS if probability >= level.least), LEVELS[-1])


def percent(probability: float) -> str:
    """Write a probability in percent: 93, 4, 0.2, <0.1."""
    value = 100 * probability
    if value >= 1:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.1 else "<0.1"


def in_terminal(text: str, probability: float | None) -> str:
    """Put `text` between the escape sequences of its colour, line by line, as pagers need it.

    Control characters in the text are shown as symbols.
    """
    on, off = f"\x1b[{level_of(probability).ansi}m", "\x1b[0m"
    return "\n".join(f"{on}{line}{off}" if line else "" for line in symbols(text).split("\n"))


def marked(text: str, probability: float | None) -> str:
    """Append its probability in percent to `text`: `class{93}`."""
    return text if probability is None else f"{text}{{{percent(probability)}}}"


def legend() -> str:
    """Explain the colours of a terminal, in these colours."""
    names = [f"from {percent(level.least)} %" for level in LEVELS[:-1]] + ["less"]
    return ", ".join(f"\x1b[{level.ansi}m{name}\x1b[0m" for level, name in zip(LEVELS, names, strict=True))


def to_html(tokens: Iterable[Scored]) -> str:
    """Write coloured tokens as HTML; hovering over one shows its probability and the alternatives."""
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

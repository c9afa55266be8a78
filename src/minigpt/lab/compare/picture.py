"""Two pictures of a comparison: the curves of its groups, and a forest plot of their differences to the baseline."""

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt.errors import printable
from minigpt.lab.compare.result import Comparison, Curve, Group
from minigpt.lab.compare.table import ranked
from minigpt.system.units import count_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0f7fd1", "#e0771a", "#1d9a6c", "#c2458b", "#8a63d2", "#9a7b0a", "#0a93a8", "#d64545")
"""Mid-tones: each can be read on white and on black, and neighbours differ in lightness too."""
_GREY = "#8a8f98"
_INK = "#1c2024"
_PAPER = "#ffffff"
_PLACEHOLDER = "#010203"
"""Stands for the ink in an SVG, whose viewer decides what it is."""
_STYLE_SHEET = f"""<style>
:root {{ color: {_INK}; }} .paper {{ fill: {_PAPER}; }}
@media (prefers-color-scheme: dark) {{ :root {{ color: #e7e9ec; }} .paper {{ fill: #131518; }} }}
</style>
<rect class="paper" width="100%" height="100%"/>"""
"""Ink and paper of an SVG file, by the colour scheme of whoever looks at it."""
_LONGEST_NAME = 32
_POINTS = 200  # of a mean curve
_TAIL = 0.15  # the share of the tokens after which a curve must be in the picture

_STYLE: dict[Any, Any] = {
    "font.size": 10.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.alpha": 0.16,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a name is a dollar
}


Draw = Callable[["Figure", Comparison, str], None]
"""Draw into a figure in the given ink colour."""


@dataclass(frozen=True)
class Picture:
    """One picture in three formats."""

    name: str
    svg: str
    """A file of its own, light or dark as its viewer prefers."""
    inline: str
    """For a page: `currentColor` without a background, so that it follows the page's colours."""
    png: bytes
    """Dark ink on white, for a slide."""


def draw_curves(comparison: Comparison) -> Picture:
    """Draw validation over tokens: the mean of each group as a line, the range of its seeds as a band.

    With more groups than colours, the baseline, the best and the worst are coloured and the others grey. The y axis is
    fitted to the last part of the curves; their steep beginning, where they overlap, is cut off.
    """
    return _picture("curves", comparison, _curves, (8.6, 4.6))


def draw_differences(comparison: Comparison) -> Picture | None:
    """A forest plot of each group's difference to the baseline with its interval; None where there is none to show."""
    if not any(verdict.difference is not None for verdict in comparison.verdicts):
        return None
    rows = len(comparison.verdicts)
    return _picture("differences", comparison, _differences, (8.6, 1.3 + 0.36 * rows))


def colours(comparison: Comparison) -> dict[str, str | None]:
    """The colour of each group, None for grey; the best group first, as in the legend."""
    names = [group.name for group in ranked(comparison)]
    chosen = names
    if len(names) > len(PALETTE):
        others = [name for name in names if name != comparison.baseline]
        n_best = len(PALETTE) // 2
        kept = {comparison.baseline, *others[:n_best], *others[len(others) - (len(PALETTE) - 1 - n_best) :]}
        chosen = [name for name in names if name in kept]
    tones = dict(zip(chosen, PALETTE, strict=False))
    return {name: tones.get(name) for name in names}


def _picture(name: str, comparison: Comparison, draw: Draw, size: tuple[float, float]) -> Picture:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    def made(ink: str, kind: str, paper: str) -> bytes:
        look = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
        style: dict[Any, Any] = {**_STYLE, **look, "grid.color": ink, "axes.facecolor": paper, "svg.hashsalt": name}
        with mpl.rc_context(style), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # in the PNG; an SVG leaves letters to the viewer
            figure = Figure(figsize=size)
            draw(figure, comparison, ink)
            buffer = io.BytesIO()
            metadata = {"Date": None} if kind == "svg" else None
            figure.savefig(buffer, format=kind, dpi=160, facecolor=paper, metadata=metadata)
            return buffer.getvalue()

    drawn = made(_PLACEHOLDER, "svg", "none").decode("utf-8").replace(_PLACEHOLDER, "currentColor")
    start = drawn.index("<svg")
    content = drawn.index(">", start) + 1
    # The ids must differ from those of another picture on the same page.
    inline = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawn[start:])
    return Picture(name, drawn[:content] + _STYLE_SHEET + drawn[content:], inline, made(_INK, "png", _PAPER))


def _curves(figure: "Figure", comparison: Comparison, ink: str) -> None:
    axes = figure.add_subplot()
    tones = colours(comparison)
    handles = {}
    for group in reversed(ranked(comparison)):  # the best one on top
        counted = [run for run in comparison.runs if run.group == group.name and run.repeats is None]
        curves = [comparison.curves[run.folder] for run in counted]
        tone = tones[group.name]
        style: dict[str, Any] = {
            "color": tone or _GREY,
            "linewidth": 2.0 if tone else 1.0,
            "alpha": 1.0 if tone else 0.45,
        }
        if group.name == comparison.baseline:
            style = {"color": tone, "linewidth": 2.2, "linestyle": (0, (5, 1.6))}
        xs, mean, low, high = _band(curves)
        # A line through a single point would be invisible.
        marker = "o" if len(xs) == 1 else None
        (handles[group.name],) = axes.plot(xs, mean, marker=marker, **style, zorder=3 if tone else 1)
        if len(curves) > 1 and tone:
            if len(xs) == 1:
                axes.vlines(xs, low, high, color=tone, alpha=0.35, linewidth=3, zorder=2)
            else:
                axes.fill_between(xs, low, high, color=tone, alpha=0.18, linewidth=0, zorder=2)
    _limit(axes, comparison)
    axes.set(xlabel="tokens trained on", ylabel=f"validation: {_axis_label(comparison)}")
    axes.xaxis.set_major_formatter(lambda x, _: count_text(x) if x else "0")
    coloured = [group for group in ranked(comparison) if tones[group.name]]
    legend = [(handles[group.name], _legend(group, comparison)) for group in coloured]
    n_grey = len(comparison.groups) - len(coloured)
    if n_grey:
        grey = next(handles[name] for name, tone in tones.items() if tone is None)
        legend.append((grey, f"{n_grey} more"))
    if len(comparison.groups) > 1 or legend:
        lines, labels = zip(*legend, strict=True)
        figure.legend(lines, labels, loc="outside right center", labelcolor=ink, fontsize=9.5, handlelength=2.4)


def _band(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, mean, lowest and highest value over the seeds, in the range that all of them cover."""
    begin, end = max(curve.tokens[0] for curve in curves), min(curve.tokens[-1] for curve in curves)
    points = sorted({x for curve in curves for x in curve.tokens if begin <= x <= end}) or [end]
    if len(points) > _POINTS:
        points = list(np.linspace(begin, end, _POINTS))
    values = np.array([np.interp(points, curve.tokens, curve.values) for curve in curves])
    return np.array(points), values.mean(0), values.min(0), values.max(0)


def _limit(axes: "Axes", comparison: Comparison) -> None:
    """Fit the axes to the ends of the curves."""
    curves = [comparison.curves[run.folder] for run in comparison.runs if run.repeats is None]
    end = max(curve.tokens[-1] for curve in curves)
    late = [
        value
        for curve in curves
        for tokens, value in zip(curve.tokens, curve.values, strict=True)
        if tokens >= _TAIL * end or tokens == curve.tokens[-1]
    ]
    low, high = min(late), max(late)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(0, end * 1.01)


def _differences(figure: "Figure", comparison: Comparison, ink: str) -> None:
    """Draw a forest plot: a row a group, the best on top, with its difference as a number at the right edge."""
    axes = figure.add_subplot()
    rows = [verdict for verdict in comparison.verdicts if verdict.difference is not None]
    rows.sort(key=lambda verdict: -(verdict.difference or 0.0))
    tones = {"better": PALETTE[2], "worse": PALETTE[7], "lower": PALETTE[0], "higher": PALETTE[1], "none": _GREY}
    axes.axvline(0, color=ink, linewidth=1, zorder=1)
    for row, verdict in enumerate(rows):
        assert verdict.difference is not None
        tone = tones[verdict.claim]
        if verdict.half_width is not None and math.isfinite(verdict.half_width):
            ends = [verdict.difference - verdict.half_width, verdict.difference + verdict.half_width]
            axes.plot(ends, [row, row], color=tone, linewidth=2.4, solid_capstyle="butt", zorder=2)
        axes.plot([verdict.difference], [row], "o", color=tone, markersize=7.5, zorder=3)
        edge = axes.get_yaxis_transform()  # x: 1 is the right edge
        axes.text(1.02, row, verdict.size.replace("-", "−"), color=tone, transform=edge, va="center", fontsize=9.5)
    axes.set_yticks(range(len(rows)), [_short_name(verdict.group) for verdict in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="both", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    name = _short_name(comparison.baseline)
    less, more = ("lower", "higher") if comparison.metric else ("better", "worse")
    axes.set_xlabel(f"{less}  ←  difference to {name}, {comparison.unit}, with its 95% interval  →  {more}")


def _legend(group: Group, comparison: Comparison) -> str:
    value = group.estimates.get(comparison.field)
    name = _short_name(group.name)
    return f"{value.mean:.3f}  {name}" if value else f" {name}"  # matplotlib ignores labels that begin with _


def _short_name(name: str) -> str:
    line = printable(name)
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"


def _axis_label(comparison: Comparison) -> str:
    return {"loss": "loss, nats per token", "bits_per_byte": "bits per byte"}[comparison.measure]

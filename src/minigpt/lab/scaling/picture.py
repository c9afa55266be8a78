"""Draw a scaling law: isoFLOP parabolas, predicted and true losses, and the best size by budget."""

from pathlib import Path
from typing import Any

import numpy as np

from minigpt.errors import printable
from minigpt.lab.scaling.result import ScalingResult
from minigpt.system.files import atomic_path
from minigpt.system.units import count_text, flops_text

FORMATS = (".png", ".svg")


def draw(path: Path, result: ScalingResult) -> None:
    """Write the picture to `path`, whose suffix is one of FORMATS."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)  # no display, and no state that others share
    left, middle, right = figure.subplots(1, 3)
    _draw_parabolas(left, result)
    _draw_losses(middle, result)
    _draw_frontier(right, result)
    law = result.fit.law
    figure.suptitle(
        f"{printable(result.sweep.name)}: "
        f"L = {law.E:.3g} + {law.A:.3g} / N^{law.alpha:.3g} + {law.B:.3g} / D^{law.beta:.3g}",
        fontsize=11,
        parse_math=False,  # a dollar in a name is a dollar
    )
    with atomic_path(path) as temporary:
        metadata = {
            "Software" if path.suffix == ".png" else "Creator": "minigpt scaling"
        }  # marks a file that may be replaced
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=110, metadata=metadata)


def _draw_parabolas(axes: Any, result: ScalingResult) -> None:
    """Draw loss over size, one colour a budget: runs, the parabola through them, and the law (dashed)."""
    from matplotlib import colormaps

    fit, found = result.fit, result.parabolas
    colours = colormaps["viridis"](np.linspace(0, 0.85, max(1, len(found))))
    for colour, each in zip(colours, found, strict=True):
        sizes = np.array([point.n_parameters for point in each.points])
        span = np.geomspace(sizes.min() / 1.15, sizes.max() * 1.15, 100)
        axes.plot(
            sizes, [point.loss for point in each.points], "o", color=colour, label=f"{flops_text(each.flops)} FLOPs"
        )
        axes.plot(span, each.loss(span), color=colour)
        # The law at the runs' own FLOPs for each pair of a parameter and a token, which depend on the size.
        pairs = [point.flops / point.n_parameters / point.n_tokens for point in each.points]
        per_pair = np.interp(np.log(span), np.log(np.sort(sizes)), np.array(pairs)[np.argsort(sizes)])
        axes.plot(span, [fit.law.loss(n, each.flops / k / n) for n, k in zip(span, per_pair, strict=True)], "--",
                  color=colour, linewidth=1)  # fmt: skip
        if each.is_inside:
            axes.plot(each.best_parameters, each.best_loss, "*", color=colour, markersize=13, markeredgecolor="black")
    if not found:
        points = result.sweep.points
        axes.plot([point.n_parameters for point in points], [point.loss for point in points], "o", label="runs")
    _label(axes, "parameters", "validation loss, nats a token", "one budget, many sizes (dashed: the law)")
    axes.legend(fontsize=8)


def _draw_losses(axes: Any, result: ScalingResult) -> None:
    """Draw the true losses over those predicted by the law."""
    points = result.sweep.points
    law = [result.fit.law.loss(point.n_parameters, point.n_tokens) for point in points]
    true = [point.loss for point in points]
    dots = axes.scatter(law, true, c=np.log10([point.flops for point in points]), cmap="viridis")
    ends = [min(law + true), max(law + true)]
    axes.plot(ends, ends, color="grey", linewidth=1)
    axes.figure.colorbar(dots, ax=axes, label="log10 FLOPs")
    axes.set_xlabel("loss by the law")
    axes.set_ylabel("loss of the run")
    axes.set_title(f"{len(true)} runs, residual {result.fit.residual:.2%} (root mean square)", fontsize=10)


def _draw_frontier(axes: Any, result: ScalingResult) -> None:
    """Draw the best size by budget: law with interval, parabolas, and the requested budget."""
    fit, line, advice, points = result.fit, result.frontier, result.advice, result.sweep.points
    budgets = [point.flops for point in points] + [advice.flops]
    span = np.geomspace(min(budgets) / 1.5, max(budgets) * 1.5, 50)
    axes.plot(span, [fit.optimum(flops)[0] for flops in span], color="C0", label=f"law: N ~ C^{fit.exponent:.2f}")
    if fit.resampled:
        intervals = [fit.optimum_interval(flops) for flops in span]
        axes.fill_between(span, [i.low for i in intervals], [i.high for i in intervals], color="C0", alpha=0.15)
    if line is not None:
        axes.plot(span, [line.parameters(flops) for flops in span], "--", color="C1",
                  label=f"parabolas: N ~ C^{line.exponent:.2f}")  # fmt: skip
    inside = [each for each in result.parabolas if each.is_inside]
    for each in inside:
        if each.interval.is_bounded:
            axes.plot([each.flops] * 2, [each.interval.low, each.interval.high], color="C1", linewidth=1)
    axes.plot([p.flops for p in inside], [p.best_parameters for p in inside], "*", color="C1", markersize=12)
    axes.plot([p.flops for p in points], [p.n_parameters for p in points], ".", color="grey", label="runs")
    axes.plot(advice.flops, advice.n_parameters, "D", color="C3", label=f"requested: {count_text(advice.n_parameters)}")
    axes.set_yscale("log")
    _label(axes, "FLOPs of training", "parameters", "the best size for a budget (band, bars: 90%)")
    axes.legend(fontsize=8)


def _label(axes: Any, x: str, y: str, title: str) -> None:
    axes.set_xscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)

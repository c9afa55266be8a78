"""The loss at each position of the window: what more context is worth."""

import numpy as np
from matplotlib.figure import Figure

from minigpt.evaluate.predictions import loss_by_position
from minigpt.training.panels.panel import Look, Panel


class PositionPanel(Panel):
    """A model that uses its context gets better along the window; one that does not stays level."""

    charts = ("loss_by_position",)
    reads_predictions = True

    def show(self, look: Look) -> None:
        """The whole curve as an image, and curves over the steps of the positions 1, 2, 4, 8, ..."""
        losses = loss_by_position(look.predictions)
        look.picture("loss_by_position/window", picture(losses))
        width = len(str(len(losses)))  # so that TensorBoard, which sorts by name, sorts by position
        for power in range(len(losses).bit_length()):
            look.line(f"loss_by_position/{2**power:0{width}}", float(losses[2**power - 1]), power)


def picture(losses: np.ndarray) -> Figure:
    """The curve (T,), with the mean of the window."""
    figure = Figure(figsize=(4.4, 3.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(np.arange(1, len(losses) + 1), losses, color="#1f4e79", lw=1.4)
    axes.axhline(np.nanmean(losses), color="#d9a441", lw=1, label=f"mean {np.nanmean(losses):.3f}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set(title="loss by position", xlabel="tokens of context", ylabel="nats")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure

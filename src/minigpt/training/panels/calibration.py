"""Is the model right as often as it is sure?"""

import numpy as np
from matplotlib.figure import Figure

from minigpt.evaluate.predictions import Bins, calibration
from minigpt.training.panels.panel import Look, Panel


class CalibrationPanel(Panel):
    """A reliability diagram (Guo et al. 2017, figure 1) of the likeliest token, and the expected calibration error."""

    reads_predictions = True

    def show(self, look: Look) -> None:
        """The diagram as an image, the error as a curve."""
        bins, error = calibration(look.predictions)
        look.picture("calibration/reliability", picture(bins, error))
        look.scalar("calibration/expected_error", error)


def picture(bins: Bins, error: float) -> Figure:
    """How often the likeliest token came against how likely it was held to be, the size of a dot a bin's share."""
    figure = Figure(figsize=(4.2, 4.2), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=1)
    filled = bins.counts > 0
    x, y = bins.against[filled], bins.means[filled]
    axes.vlines(x, np.minimum(x, y), np.maximum(x, y), color="#c0504d", lw=1.2)
    axes.scatter(x, y, s=12 + 300 * bins.counts[filled] / bins.counts.sum(), color="#1f4e79", zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"calibration: off by {error:.3f}")
    axes.set(xlabel="how sure the model is", ylabel="how often it is right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure

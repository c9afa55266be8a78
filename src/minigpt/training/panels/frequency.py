"""The loss of common and of rare tokens."""

from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from minigpt.evaluate.predictions import FREQUENCIES, Bins, count_tokens, loss_by_frequency
from minigpt.training.panels.panel import Look, Panel, PanelSource


def _names() -> list[str]:
    one_in = [f"{round(1 / share):,}" for share in FREQUENCIES[:-1]]
    between = [f"1 in {common} to {rare}" for common, rare in pairwise(one_in)]
    return [f"1 in {one_in[0]} or more", *between, "rarer"]


NAMES = _names()


class FrequencyPanel(Panel):
    """Common tokens are learned first; what is left to gain lies with the rare ones."""

    charts = ("loss_by_frequency",)
    reads_predictions = True

    def __init__(self, source: PanelSource) -> None:
        super().__init__(source)
        self.counts = count_tokens(source.prepared.train.shards, source.tokenizer.vocab_size)

    def show(self, look: Look) -> None:
        """Bars as an image, and a curve over the steps for each bin that has tokens."""
        bins = loss_by_frequency(look.predictions, self.counts)
        look.picture("loss_by_frequency/bins", picture(bins))
        for number, (name, count, loss) in enumerate(zip(NAMES, bins.counts, bins.means, strict=True), start=1):
            if count:
                look.line(f"loss_by_frequency/{number} {name}", float(loss), number - 1)


def picture(bins: Bins) -> Figure:
    """A bar for each bin, with the share of the text that its tokens make up."""
    figure = Figure(figsize=(4.4, 3.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(NAMES))
    losses = np.nan_to_num(bins.means)
    axes.barh(places, losses, color="#6d9cc6")
    for place, count, loss in zip(places.tolist(), bins.counts.tolist(), losses.tolist(), strict=True):
        share = f"{loss:.2f} ({count / bins.counts.sum():.0%})" if count else "none here"
        axes.text(loss, place, f" {share}", va="center")
    axes.set_yticks(places, NAMES)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1e-9, losses.max()) * 1.6)  # room for the words behind the longest bar
    axes.set(title="loss of common and rare tokens", xlabel="nats (share of the text)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure

"""Attention maps of a fixed sentence: all heads at a glance, and chosen ones with their tokens."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minigpt.data.visible import token_texts
from minigpt.interpret.tracing import activation_names
from minigpt.interpret.views import attention_maps
from minigpt.training.panels.panel import THUMBNAIL, TITLE_SIZE, Look, Panel, PanelSource

GAP = 1
"""Pixels between two maps of the overview, in units of its own."""


class AttentionPanel(Panel):
    """Row t of a map: what token t takes from each token up to itself."""

    def __init__(self, source: PanelSource) -> None:
        super().__init__(source)
        self.texts = token_texts(source.tokenizer, source.tokens[0].tolist())

    def show(self, look: Look) -> None:
        """One image of all heads, and one of each chosen head."""
        if f"pattern.{look.model.config.n_layer - 1}" not in activation_names(look.model):
            return  # there are no layers, or blocks of the user's own without our attention
        maps = attention_maps(look.model, look.tokens)[:, 0].float().cpu().numpy()  # (L, H, T, T)
        maps = np.where(np.triu(np.ones(maps.shape[-2:], dtype=bool), 1), math.nan, maps)  # the future stays white
        look.picture("attention/all heads", overview(maps))
        for layer, head in self.source.heads:
            look.picture(f"attention/layer {layer} head {head}", large(maps[layer, head], self.texts, layer, head))


def overview(maps: np.ndarray) -> Figure:
    """Maps (L, H, T, T) in one raster, a row a layer and a column a head: one image is drawn, not L H of them."""
    layers, heads, tokens, _ = maps.shape
    side = tokens + GAP
    raster = np.full((layers * side, heads * side), math.nan)
    for layer in range(layers):
        for head in range(heads):
            raster[layer * side :, head * side :][:tokens, :tokens] = maps[layer, head]
    figure, axes, bar = _figure(max(1.0 * heads, 2.0), 1.0 * layers, margins=(0.6, 0.55, 0.4))
    axes.set_title("attention, all heads")
    shown = axes.imshow(raster, cmap="magma_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks([head * side + tokens / 2 for head in range(heads)], map(str, range(heads)))
    axes.set_yticks([layer * side + tokens / 2 for layer in range(layers)], map(str, range(layers)))
    axes.set(xlabel="head", ylabel="layer")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, cax=bar, label="weight")
    return figure


def large(weights: np.ndarray, texts: list[str], layer: int, head: int) -> Figure:
    """One map (T, T) with its tokens along both sides."""
    longest = 0.3 + 0.084 * max(map(len, texts))  # inches of a label
    side = max(2.5, 0.2 * len(texts))
    figure, axes, bar = _figure(side, side, margins=(longest + 0.3, longest + 0.3, 0.7))
    shown = axes.imshow(weights, cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(range(len(texts)), texts, rotation=90, family="monospace", fontsize=9, parse_math=False)
    axes.set_yticks(range(len(texts)), texts, family="monospace", fontsize=9, parse_math=False)
    axes.set(xlabel="token that is read", ylabel="token that reads", title=f"layer {layer}, head {head}")
    axes.title.set_fontsize(TITLE_SIZE * max(1.0, figure.get_figwidth() / THUMBNAIL))
    axes.spines[["top", "right"]].set_visible(False)
    figure.colorbar(shown, cax=bar, label="weight")
    return figure


def _figure(width: float, height: float, margins: tuple[float, float, float]) -> tuple[Figure, Axes, Axes]:
    """A figure with axes of this size and a bar beside them, in inches, and margins left, below and above.

    Laid out by hand: matplotlib's own layout draws everything several times.
    """
    left, below, above = margins
    whole = (left + width + 0.9, below + height + above)
    figure = Figure(figsize=whole, dpi=100)
    axes = figure.add_axes((left / whole[0], below / whole[1], width / whole[0], height / whole[1]))
    bar_height = min(height, 2.5)
    middle = below + (height - bar_height) / 2
    bar = figure.add_axes(((left + width + 0.15) / whole[0], middle / whole[1], 0.12 / whole[0], bar_height / whole[1]))
    return figure, axes, bar

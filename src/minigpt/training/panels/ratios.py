"""Ratios of the norms of gradient and update to that of the weight, for each matrix."""

from torch import Tensor

from minigpt.interpret.views import gradients, matrices, norm_ratios
from minigpt.model.gpt import GPT
from minigpt.training.panels.panel import Look, Panel, PanelSource


class RatiosPanel(Panel):
    """The learning rate, seen from the weights: an update of about a thousandth of a matrix is the rule of thumb.

    The weights before the update are kept for the length of a step in which the panel is due: as much memory as the
    model's matrices take.
    """

    charts = ("gradient_to_weight", "update_to_weight")

    def __init__(self, source: PanelSource) -> None:
        super().__init__(source)
        self.before: dict[str, Tensor] = {}

    def before_update(self, model: GPT) -> None:
        """Keep the weights."""
        self.before = {name: weight.clone() for name, weight in matrices(model).items()}

    def show(self, look: Look) -> None:
        """Two curves for each matrix, of Frobenius norms. The gradient is the clipped one."""
        updates = {name: weight - self.before[name] for name, weight in matrices(look.model).items()}
        places = {name: place for place, name in enumerate(updates)}
        for name, ratio in norm_ratios(gradients(look.model), self.before).items():
            look.line(f"gradient_to_weight/{name}", ratio, places[name])
        for name, ratio in norm_ratios(updates, self.before).items():
            look.line(f"update_to_weight/{name}", ratio, places[name])
        self.before = {}

"""Histograms of weights, gradients and activations, by layer."""

from minigpt.interpret.tracing import activation_names, trace
from minigpt.interpret.views import gradients, matrices
from minigpt.training.panels.panel import Look, Panel

KINDS = ("stream", "query", "key", "value", "heads", "attention", "hidden", "feedforward", "logits")
"""The activations that are shown, those of the fixed sentence."""
VALUES = "values of"
"""Prefix of their groups: TensorBoard sorts by name, and `train` and `val` should come first."""


class HistogramsPanel(Panel):
    """A drift, a dead layer or an outlier is seen here long before it is seen in the loss."""

    def show(self, look: Look) -> None:
        """Weights after the step; the gradient that it was made with, clipped; activations of the new weights."""
        for name, weight in matrices(look.model).items():
            look.histogram(f"{VALUES} weights/{name}", weight)
        for name, gradient in gradients(look.model).items():
            look.histogram(f"{VALUES} gradients/{name}", gradient)
        names = [name for name in activation_names(look.model) if name.partition(".")[0] in KINDS]
        for name, activation in trace(look.model, look.tokens, keep=names).items():
            look.histogram(f"{VALUES} activations/{name}", activation)

"""Look inside a model: activations by name, edits, attention maps, logit lens, token probabilities."""

from minigpt.interpret.tracing import trace

__all__ = ["trace"]

"""Look inside a model: activations by name, edits, attention maps, the logit lens, token probabilities.

from minigpt import interpret

activations = interpret.trace(model, tokens)                 activations["stream.3"], ["pattern.0"], .logits
interpret.trace(model, tokens, edits={"heads.2": interpret.zero_heads(5)})
with interpret.edited(model, {"attention.1": interpret.zero}):
    ...                                                      anything the model does: a loss, sampling

tracing        record and edit the activations of a pass
edits          zero, zero_heads, patch, patch_heads
views          attention maps, the logit lens, matrices and gradients
predictions    losses, confidence and hits token by token; loss by position and frequency, calibration
probabilities  the probability of each token of a text, given or sampled
coloured       those as coloured text, for a notebook or a terminal
"""

from minigpt.interpret.edits import patch, patch_heads, zero, zero_heads
from minigpt.interpret.probabilities import generate_scored, score_tokens
from minigpt.interpret.tracing import activation_names, edited, trace
from minigpt.interpret.views import attention_maps, logit_lens

__all__ = [
    "activation_names",
    "attention_maps",
    "edited",
    "generate_scored",
    "logit_lens",
    "patch",
    "patch_heads",
    "score_tokens",
    "trace",
    "zero",
    "zero_heads",
]

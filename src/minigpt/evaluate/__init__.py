"""Evaluate a model over a text: exact loss, perplexity, bits per byte, and its predictions token by token.

from minigpt import evaluate

evaluate.evaluate(model, shards, token_bytes)       Evaluation: loss, perplexity, bits_per_byte, loss_by_position
predictions = evaluate.predict(model, batches)      losses, confidence and hits, (N, T) each
evaluate.calibration(predictions)                   accuracy by confidence, expected calibration error

windows        the loop over evaluation windows, which both use
loss           exact loss over a whole text
predictions    losses by position and by frequency of the token, calibration
"""

from minigpt.evaluate.loss import Evaluation, evaluate
from minigpt.evaluate.predictions import Predictions, calibration, loss_by_frequency, loss_by_position, predict

__all__ = [
    "Evaluation",
    "Predictions",
    "calibration",
    "evaluate",
    "loss_by_frequency",
    "loss_by_position",
    "predict",
]

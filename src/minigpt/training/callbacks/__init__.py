"""Callbacks around a training step: checkpoints, validation, evaluations, curves, divergence, early ends."""

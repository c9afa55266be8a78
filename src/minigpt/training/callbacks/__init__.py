"""What happens around a training step: checkpoints, validation, curves, divergence, early ends."""

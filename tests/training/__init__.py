"""Mirrors src/minigpt/training."""

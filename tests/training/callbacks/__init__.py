"""Mirrors src/minigpt/training/callbacks."""

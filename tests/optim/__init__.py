"""Mirrors src/minigpt/optim."""

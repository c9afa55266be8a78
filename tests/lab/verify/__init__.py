"""Mirrors src/minigpt/lab/verify."""

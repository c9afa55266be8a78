"""Mirrors src/minigpt/lab/compare."""

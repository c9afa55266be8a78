"""Mirrors src/minigpt/lab/sweep."""

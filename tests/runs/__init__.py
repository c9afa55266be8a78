"""Mirrors src/minigpt/runs."""

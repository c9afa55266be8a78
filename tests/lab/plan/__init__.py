"""Mirrors src/minigpt/lab/plan."""

"""Mirrors src/minigpt/evaluate."""

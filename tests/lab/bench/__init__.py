"""Mirrors src/minigpt/bench."""

"""Mirrors src/minigpt/study."""

"""Mirrors src/minigpt/lab/scaling."""

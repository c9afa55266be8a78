"""Mirrors src/minigpt/hardware."""

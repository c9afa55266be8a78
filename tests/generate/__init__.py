"""Mirrors src/minigpt/generate."""

"""Mirrors src/minigpt/training/loggers."""

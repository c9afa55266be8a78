"""Predict memory, time and data of a run before it starts."""

"""Loggers of a run: TensorBoard event files and metrics.csv."""

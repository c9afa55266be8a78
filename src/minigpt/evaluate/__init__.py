"""Exact losses of a model over a text."""

"""Fit scaling laws to a sweep and extrapolate from them."""

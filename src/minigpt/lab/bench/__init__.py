"""Measure the speed and the memory of training and generation."""

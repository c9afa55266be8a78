"""Compare runs with confidence intervals, and say which differences are real."""

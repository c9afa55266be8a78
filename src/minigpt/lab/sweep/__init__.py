"""Train a grid or a search of configs, on this machine or a cluster."""

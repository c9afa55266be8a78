"""What a run leaves behind: paths, checkpoints, provenance, metrics, status, divergence snapshots."""

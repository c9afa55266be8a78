"""Where the numbers of a run are written: TensorBoard event files and metrics.csv."""

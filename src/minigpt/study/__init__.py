"""The study of many runs: planning, sweeping, comparing them. No lightning; nothing from training/."""

"""Many runs: planned before they are paid for, swept, compared, put into a law. No lightning; nothing of training/."""

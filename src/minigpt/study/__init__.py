"""Many runs: planned before they are paid for, swept, compared, and put into a law."""

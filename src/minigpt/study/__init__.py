"""Many runs: planned before they are paid for, run as a matrix, compared with how sure that is."""

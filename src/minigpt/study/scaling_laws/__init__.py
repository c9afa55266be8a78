"""Loss as a function of parameters and tokens, fitted to runs."""

"""Import and export weights of other frameworks by explicit tables of names, read in both directions."""

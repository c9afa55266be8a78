"""Weights of other frameworks, into a checkpoint of ours and out of it again: explicit tables of names, both ways."""

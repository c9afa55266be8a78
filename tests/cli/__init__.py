"""Tests of the commands; a package itself, so that two folders may hold a file of the same name."""

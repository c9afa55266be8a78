"""Tests of the text package; a package itself, so that two folders may hold a file of the same name."""

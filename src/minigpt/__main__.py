"""`python -m minigpt` is `minigpt`."""

from minigpt.cli.main import script

script()

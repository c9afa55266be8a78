"""`python -m minigpt` is `minigpt`."""

import sys

from minigpt.cli.main import main

sys.exit(main())

"""A cell's process: `python -m minigpt.lab.sweep.child fit ...` is `minigpt fit ...`, but never outlives its sweep.

The sweep holds the write end of its standard input. When that is closed, also because the sweep was killed, this
process sends itself SIGTERM, at which a run saves and stops. Pipes work on any system; PR_SET_PDEATHSIG only on Linux.
"""

import os
import runpy
import signal
import threading
import time

GRACE = 60.0
"""Grace period in seconds for a run to finish its step and save."""


def main() -> None:
    """Watch standard input, and run `minigpt`."""
    threading.Thread(target=_watch, daemon=True).start()
    runpy.run_module("minigpt", run_name="__main__", alter_sys=True)


def _watch() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()

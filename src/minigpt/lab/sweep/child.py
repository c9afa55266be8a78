"""A cell's process: `python -m minigpt.lab.sweep.child fit ...` is `minigpt fit ...`, but never outlives its sweep.

The sweep holds the other end of its standard input. When that end goes, also because the sweep was killed, this process
sends itself the SIGTERM at which a run saves and stops. Any system has pipes; Linux alone has PR_SET_PDEATHSIG.
"""

import os
import runpy
import signal
import threading
import time

GRACE = 60.0
"""Seconds that a run has to end its step and save."""


def main() -> None:
    """Watch, and be `minigpt`."""
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

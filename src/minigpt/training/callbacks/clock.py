"""Time spent on training itself, without validation, checkpoints and samples."""

import contextlib
import time
from collections.abc import Iterator


class TrainingClock:
    """Seconds of training: `pause` takes out what is not. Shared by the callbacks of one run."""

    def __init__(self) -> None:
        self._paused = 0.0

    def seconds(self) -> float:
        """Seconds on this clock; only differences mean something."""
        return time.perf_counter() - self._paused

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Let the clock stand still for the length of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

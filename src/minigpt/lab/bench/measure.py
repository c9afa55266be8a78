"""Interleaved timing: contenders take turns, so that a machine that slows down slows all of them."""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from minigpt.system.matmul import synchronize

Turn = Callable[[], None]
ReportProgress = Callable[[int, int], None]
"""Called between timed turns with (turns done, total turns)."""


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of some values."""

    median: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> "Spread":
        """Apply a monotonic function, such as seconds to tokens per second."""
        ends = sorted((function(self.low), function(self.high)))
        return Spread(function(self.median), *ends)


def spread(values: Sequence[float]) -> Spread:
    """The spread of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(one: Sequence[float], other: Sequence[float]) -> Spread:
    """The ratio one / other in each round: whatever slows a whole round cancels."""
    return spread([mine / its for mine, its in zip(one, other, strict=True)])


def turn_order(names: Sequence[str], n_rounds: int) -> Iterator[str]:
    """Each name once a round, in reverse every other round, so that none always comes first or after the same one."""
    for number in range(n_rounds):
        yield from reversed(names) if number % 2 else names


@dataclass
class Interleaving:
    """Time contenders in rounds, one turn each.

    `guests` are functions that are called. The `host` is a loop that calls us, such as the Trainer's, which cannot be
    run a few steps at a time: its turn is the time between two calls of `take_turns`. Python's garbage collector runs
    before each turn and is off during it.
    """

    guests: Mapping[str, Turn]
    n_rounds: int
    device: torch.device
    host: str | None = None
    progress: ReportProgress = no_progress
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of every turn, by name."""

    def __post_init__(self) -> None:
        names = [*([self.host] if self.host else []), *self.guests]
        self.seconds = {name: [] for name in names}
        self._turns = turn_order(names, self.n_rounds)
        self._hosting: contextlib.ExitStack | None = None

    def take_turns(self) -> bool:
        """End the host's turn, if it has one, and run the guests; True if it is the host's turn again, False at the
        end."""
        self._end_hosting()
        for name in self._turns:
            if name == self.host:
                self._hosting = contextlib.ExitStack()
                self._hosting.enter_context(self._timed(name))
                return True
            with self._timed(name):
                self.guests[name]()
        return False

    def abandon(self) -> None:
        """Restore the garbage collector if the host ended during its turn."""
        self._end_hosting()

    def _end_hosting(self) -> None:
        if self._hosting is not None:
            self._hosting.close()
            self._hosting = None

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        with no_garbage_collection():
            synchronize(self.device)
            began = time.perf_counter()
            yield
            synchronize(self.device)
            self.seconds[name].append(time.perf_counter() - began)
        self.progress(sum(map(len, self.seconds.values())), self.n_rounds * len(self.seconds))


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now, disable the collector within the block, and restore it afterwards."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

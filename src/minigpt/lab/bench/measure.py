"""Interleaved timing: who is compared takes turns, so that a machine that slows down slows all of them."""

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
"""Called between what is timed, with (turns done, turns in all)."""


def say_nothing(done: int, total: int) -> None:
    """Nobody is looking."""


@dataclass(frozen=True)
class Spread:
    """A median, and the lowest and the highest of what it is the median of."""

    median: float
    low: float
    high: float

    def map(self, function: Callable[[float], float]) -> "Spread":
        """The same through a monotonic function: seconds to tokens per second, say."""
        ends = sorted((function(self.low), function(self.high)))
        return Spread(function(self.median), *ends)


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(one: Sequence[float], other: Sequence[float]) -> Spread:
    """one / other round by round: what slows a whole round cancels out."""
    return spread([mine / its for mine, its in zip(one, other, strict=True)])


def turn_order(names: Sequence[str], n_rounds: int) -> Iterator[str]:
    """Each name once a round, every other round backwards: none is always first, or always after the same one."""
    for number in range(n_rounds):
        yield from reversed(names) if number % 2 else names


@dataclass
class Interleaving:
    """Rounds in which each contender has one turn.

    `guests` are called for theirs. A `host` is code that calls us: it does its turn between two calls of `take_turns`,
    since a trainer's loop cannot be called a few steps at a time. Python's garbage collector is off while a turn is
    timed, and collects before it.
    """

    guests: Mapping[str, Turn]
    n_rounds: int
    device: torch.device
    host: str | None = None
    progress: ReportProgress = say_nothing
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Of every turn, by name."""

    def __post_init__(self) -> None:
        names = [*([self.host] if self.host else []), *self.guests]
        self.seconds = {name: [] for name in names}
        self._turns = turn_order(names, self.n_rounds)
        self._hosting: contextlib.ExitStack | None = None

    def take_turns(self) -> bool:
        """End the host's turn, if it had one, and let the guests have theirs; True when it is the host's again, False
        when all is done."""
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
        """Put the garbage collector back if the host ended in the middle of its turn."""
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
    """Collect now, and not within the block; afterwards as it was before."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

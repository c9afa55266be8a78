"""Interleaving: who comes when, what is timed, and the garbage collector."""

import gc
import itertools

import pytest
import torch

from minigpt.lab.bench import measure
from minigpt.lab.bench.measure import Interleaving, Spread, no_garbage_collection, ratio, spread, turn_order

CPU = torch.device("cpu")


def test_every_other_round_goes_backwards() -> None:
    assert "".join(turn_order("abc", 3)) == "abccbaabc"


def test_guests_alone_take_all_their_turns() -> None:
    log: list[str] = []
    guests = {name: lambda name=name: log.append(name) for name in "ab"}
    turns = Interleaving(guests, 2, CPU)
    assert not turns.take_turns()
    assert log == ["a", "b", "b", "a"]
    assert {name: len(seconds) for name, seconds in turns.seconds.items()} == {"a": 2, "b": 2}


def test_the_host_has_its_turns_between_the_calls() -> None:
    log: list[str] = []
    guests = {name: lambda name=name: log.append(name) for name in "ab"}
    turns = Interleaving(guests, 3, CPU, host="host")
    while turns.take_turns():
        log.append("host")
    assert log == ["host", "a", "b", "b", "a", "host", "host", "a", "b"]
    assert [len(turns.seconds[name]) for name in ("host", "a", "b")] == [3, 3, 3]


def test_each_is_charged_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only moves inside turns: 5 a turn for the guest, 2 for the host."""
    now = itertools.count()
    clock = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])

    def guest() -> None:
        next(now)
        clock[0] += 5

    turns = Interleaving({"guest": guest}, 4, CPU, host="host")
    while turns.take_turns():
        clock[0] += 2
    assert turns.seconds == {"host": [2.0] * 4, "guest": [5.0] * 4}


def test_the_garbage_collector_is_off_in_turns_and_back_afterwards() -> None:
    seen: list[bool] = []
    turns = Interleaving({"guest": lambda: seen.append(gc.isenabled())}, 2, CPU, host="host")
    while turns.take_turns():
        seen.append(gc.isenabled())
    assert seen == [False] * 4
    assert gc.isenabled()


def test_a_host_that_breaks_off_leaves_the_collector_on() -> None:
    turns = Interleaving({"guest": lambda: None}, 2, CPU, host="host")
    assert turns.take_turns()
    assert not gc.isenabled()
    turns.abandon()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_spreads_and_ratios() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert ratio([1.0, 10.0, 100.0], [2.0, 20.0, 100.0]) == Spread(0.5, 0.5, 1.0)  # not 10 / 20 of the medians
    assert Spread(2.0, 1.0, 4.0).map(lambda seconds: 1 / seconds) == Spread(0.5, 0.25, 1.0)

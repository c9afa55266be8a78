"""Numbers as a person reads them."""

import math

import pytest

from minigpt.system.units import (
    bytes_text,
    clock_text,
    count_text,
    flops_text,
    rate_text,
    seconds_text,
    speed_text,
    times_text,
)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0"),
        (874.2, "874"),
        (1000, "1k"),
        (52_140, "52.1k"),
        (999_999, "1M"),
        (1.31e6, "1.31M"),
        (2.5e9, "2.5B"),
        (4.2e15, "4.2e15"),
    ],
)
def test_counts(number: float, told: str) -> None:
    assert count_text(number) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.0031, "3.1 ms"),
        (0.9999, "1 s"),
        (45, "45 s"),
        (59.7, "59.7 s"),
        (90, "1.5 min"),
        (720, "12 min"),
        (12_240, "3.4 h"),
        (5 * 86400, "5 days"),
        (2e8, "2,310 days"),
    ],
)
def test_seconds(seconds: float, told: str) -> None:
    assert seconds_text(seconds) == told


@pytest.mark.parametrize(
    ("n_bytes", "told"),
    [(0, "0 B"), (12, "12 B"), (1500, "1.5 kB"), (33.9e6, "33.9 MB"), (1.2e9, "1.2 GB"), (math.inf, "unknown")],
)
def test_bytes(n_bytes: float, told: str) -> None:
    assert bytes_text(n_bytes) == told


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1.44, "1.4"), (9.96, "10"), (25.4, "25"), (171.2, "170"), (512, "510"), (1.34e6, "1,300,000"), (math.inf, "inf")],
)
def test_factors_have_no_exponent(factor: float, told: str) -> None:
    assert times_text(factor) == told


def test_speeds_and_operations() -> None:
    assert [flops_text(flops) for flops in (6.914e11, 1e12, 3e18, 874)] == ["6.91e11", "1e12", "3e18", "874"]
    assert [speed_text(speed) for speed in (989e12, 1.2e9, 2.5e15)] == ["989 TFLOP/s", "1.2 GFLOP/s", "2.5 PFLOP/s"]
    assert rate_text(52_140) == "52.1k tokens/s"


def test_a_time_that_passes_has_no_fractions_of_a_second() -> None:
    assert [clock_text(seconds) for seconds in (0.2, 41.4, 725, 3750)] == ["0 s", "41 s", "12.1 min", "1.04 h"]

"""Numbers as a person reads them."""

import math

import pytest

from minigpt.study.units import bytes_text, count_text, seconds_text, times_text


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
        (4.2e15, "4.2e+15"),
    ],
)
def test_counts(number: float, told: str) -> None:
    assert count_text(number) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(45, "45 s"), (59.7, "59.7 s"), (90, "1.5 min"), (720, "12 min"), (12_240, "3.4 h"), (5 * 86400, "5 days")],
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

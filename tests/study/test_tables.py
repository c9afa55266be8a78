"""Plain tables and short numbers."""

import pytest

from minigpt.study.tables import Table, display_width, duration, short, size


def test_columns_are_aligned_whatever_the_letters() -> None:
    table = Table(
        title="t", columns=("name", "n"), rows=[("你好", "1"), ("e\u0301", "1,000"), ("a\nb\x1b", "2")],
        numbers=frozenset({"n"}),
    )  # fmt: skip
    assert table.plain().splitlines() == [
        "t",
        "name         n",
        "你好         1",
        "e\u0301        1,000",
        "a b\\x1b      2",
    ]


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("你好", 4), ("e\u0301", 1)])
def test_display_width(text: str, width: int) -> None:
    assert display_width(text) == width


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (0, "0"),
        (874.2, "874"),
        (1000, "1k"),
        (52_140, "52.1k"),
        (999_999, "1M"),
        (1.31e6, "1.31M"),
        (4.2e15, "4.2e+15"),
    ],
)
def test_short(number: float, told: str) -> None:
    assert short(number) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(45, "45 s"), (59.7, "1 min"), (720, "12 min"), (12_240, "3.4 h"), (5 * 86400, "5 days")]
)
def test_duration(seconds: float, told: str) -> None:
    assert duration(seconds) == told


@pytest.mark.parametrize(("n_bytes", "told"), [(0, "0 B"), (12, "12 B"), (1500, "1.5 kB"), (33.9e6, "33.9 MB")])
def test_size(n_bytes: float, told: str) -> None:
    assert size(n_bytes) == told

"""Plain tables."""

import pytest

from minigpt.study.tables import Table, display_width


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

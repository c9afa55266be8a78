"""Plain tables."""

import pytest

from minigpt.study.tables import Table, columns_text, display_width, folded, hanging


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


def test_a_wide_table_is_folded_between_its_cells() -> None:
    rows = [("key", "one", "two", "three"), ("a", "1.5 MB", "22.5 MB", "3")]
    assert folded(rows, None, keys=1) == [[list(row) for row in rows]]
    blocks = folded(rows, 20, keys=1)
    assert blocks == [[["key", "one", "two"], ["a", "1.5 MB", "22.5 MB"]], [["key", "three"], ["a", "3"]]]
    assert max(len(line) for block in blocks for line in columns_text(block)) == 20
    assert len(folded(rows, 5, keys=1)) == 3, "too narrow for any: a column each"


def test_a_long_line_hangs_below_its_text() -> None:
    assert hanging("label  ", "one two-three four", None) == ["label  one two-three four"]
    assert hanging("label  ", "one two-three four", 18) == ["label  one", "       two-three", "       four"]

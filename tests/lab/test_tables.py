"""Plain tables."""

import pytest

from minigpt.lab.tables import Table, columns_text, display_width, folded, hanging, wrapped


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


def outcome(group: str) -> Table:
    """Six columns of numbers, 16 wide, for two groups."""
    columns = ("group", *(f"loss {letter}" for letter in "abcdef"))
    rows = [(group, *("1.3634 ± 0.0053",) * 6), ("base", *("2.3634 ± 0.1053",) * 6)]
    return Table(title="t", columns=columns, rows=list(rows), numbers=frozenset(columns[1:]), reads_down=True)


@pytest.mark.parametrize("room", [40, 78, 98])
def test_blocks_repeat_the_first_column_and_lose_none(room: int) -> None:
    table = outcome("rotary")
    blocks = table.blocks(room)
    assert all(block.fits(room) for block in blocks)
    assert [block.title for block in blocks] == ["t", *[""] * (len(blocks) - 1)]
    assert [name for block in blocks for name in block.columns[1:]] == list(table.columns[1:])
    assert {tuple(row[0] for row in block.rows) for block in blocks} == {("rotary", "base")}
    assert len(blocks) == -(-6 // ((room - 6) // 17))


def test_long_names_are_numbered() -> None:
    legend, *blocks = outcome("x" * 70).blocks(78)
    assert (legend.title, legend.columns, legend.rows) == ("t", ("#", "group"), [("1", "x" * 70), ("2", "base")])
    assert [block.title for block in blocks] == ["", ""]
    assert {tuple(row[0] for row in block.rows) for block in blocks} == {("1", "2")}


def test_no_line_ends_within_an_option_or_a_command() -> None:
    text = "lower --data.batch_size 16 or call minigpt plan with --model.n_layer 4: a step needs 1.93 ± 0.02 GB"
    for width in range(12, 60):
        lines = wrapped(text, width)
        assert " ".join(lines) == text
        assert not any(line.split()[-1] in {"--data.batch_size", "minigpt", "--model.n_layer", "±"} for line in lines)
        assert hanging("x: ", text, width)[0].startswith("x: lower")

"""Tables as plain text and in terminals of several widths: nothing is cut, no number and no name is broken."""

import io

import pytest
from rich.console import Console

from minigpt.system.tables import Table, say, show, wrapped

NUMBER = "1.3634 ± 0.0053"
REASON = "its losses are no numbers, or its step 12 was stopped, and there is more to be said of it"


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, legacy_windows=False)


def written(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def outcome(group: str) -> Table:
    columns = ("group", *(f"loss {letter}" for letter in "abcdef"))
    rows = [(group, *(NUMBER,) * 6), ("base (baseline)", *(NUMBER,) * 6)]
    return Table(title="results", columns=columns, rows=list(rows), numbers=frozenset(columns[1:]), reads_down=True)


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


def test_a_wide_table_is_folded_between_its_cells() -> None:
    table = Table(columns=("key", "one", "two", "three"), rows=[("a", "1.5 MB", "22.5 MB", "3")])
    assert [block.plain() for block in table.blocks(99)] == [table.plain()]
    blocks = table.blocks(20)
    assert [block.plain().split() for block in blocks] == [
        ["key", "one", "two", "a", "1.5", "MB", "22.5", "MB"], ["key", "three", "a", "3"],
    ]  # fmt: skip
    assert max(len(line) for block in blocks for line in block.plain().splitlines()) == 20
    assert len(table.blocks(6)) == 3, "too narrow for any: a column each"
    two = Table(columns=("a", "b", "one", "two"), rows=[("1", "2", "1.5 MB", "22.5 MB")], keys=2)
    assert [list(block.columns) for block in two.blocks(12)] == [["a", "b", "one"], ["a", "b", "two"]]


def test_a_long_line_hangs_below_its_text() -> None:
    assert wrapped("one two-three four", 18, label="label  ") == ["label  one", "       two-three", "       four"]
    say(console := Console(file=io.StringIO(), width=18), "one two-three four", label="label  ")
    assert written(console) == ["label  one two-three four"]


def six_losses(group: str) -> Table:
    """Six columns of numbers, 16 wide, for two groups."""
    columns = ("group", *(f"loss {letter}" for letter in "abcdef"))
    rows = [(group, *("1.3634 ± 0.0053",) * 6), ("base", *("2.3634 ± 0.1053",) * 6)]
    return Table(title="t", columns=columns, rows=list(rows), numbers=frozenset(columns[1:]), reads_down=True)


@pytest.mark.parametrize("room", [40, 78, 98])
def test_blocks_repeat_the_first_column_and_lose_none(room: int) -> None:
    table = six_losses("rotary")
    blocks = table.blocks(room)
    assert all(block.fits(room) for block in blocks)
    assert [block.title for block in blocks] == ["t", *[""] * (len(blocks) - 1)]
    assert [name for block in blocks for name in block.columns[1:]] == list(table.columns[1:])
    assert {tuple(row[0] for row in block.rows) for block in blocks} == {("rotary", "base")}
    assert len(blocks) == -(-6 // ((room - 6) // 17))


def test_long_names_are_numbered() -> None:
    legend, *blocks = six_losses("x" * 70).blocks(78)
    assert (legend.title, legend.columns, legend.rows) == ("t", ("#", "group"), [("1", "x" * 70), ("2", "base")])
    assert [block.title for block in blocks] == ["", ""]
    assert {tuple(row[0] for row in block.rows) for block in blocks} == {("1", "2")}


def test_no_line_ends_within_an_option_or_a_command() -> None:
    text = "lower --data.batch_size 16 or call minigpt plan with --model.n_layer 4: a step needs 1.93 ± 0.02 GB"
    for width in range(12, 60):
        lines = wrapped(text, width)
        assert " ".join(lines) == text
        assert not any(line.split()[-1] in {"--data.batch_size", "minigpt", "--model.n_layer", "±"} for line in lines)
        assert wrapped(text, width, label="x: ")[0].startswith("x: lower")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
@pytest.mark.parametrize("group", ["tie_embeddings=false", "g" * 75])
def test_numbers_are_never_broken(width: int, group: str) -> None:
    console = terminal(width)
    show(console, outcome(group))
    lines = written(console)
    assert max(map(len, lines)) <= width
    assert sum(line.count(NUMBER) for line in lines) == 12
    if len(group) < width / 2 or len(group) + 6 * len(NUMBER) < width:
        assert sum(group in line for line in lines) == sum("group" in line for line in lines)
    for letter in "abcdef":
        assert sum(f"loss {letter}" in line for line in lines) == 1


def test_rows_that_are_too_wide_are_stacked() -> None:
    name = "ablation/tie_embeddings=false,seed=1"
    table = Table(
        title="", columns=("run", "state", "step", "loss", "reason"), rows=[(name, "finished", "1,000", "1.5", REASON)],
        numbers=frozenset({"step", "loss"}), prose=frozenset({"reason"}),
    )  # fmt: skip
    console = terminal(50)
    show(console, table)
    assert written(console) == [
        "run", "  state      step  loss", "  reason", name, "  finished  1,000   1.5",
        "  its losses are no numbers, or its step 12 was", "  stopped, and there is more to be said of it",
    ]  # fmt: skip
    show(wide := terminal(120), table)
    row = next(line for line in written(wide) if name in line)
    assert "1,000" in row
    assert "its losses" in row


def test_signs_stand_beside_their_numbers() -> None:
    verdict = f"n_head=2 is better than base by {NUMBER} nats (3 seeds, p = 0.029 corrected, p < 0.001)"
    for width in range(20, 100):
        console = terminal(width)
        say(console, verdict)
        lines = written(console)
        assert " ".join(lines) == verdict
        assert not any(line.endswith((" ±", " =", " <")) or line.startswith(("±", "=", "<")) for line in lines)


def test_a_path_in_a_sentence_stays_whole() -> None:
    width = 60
    path = "runs/s/base,seed=1/divergences/step=00000002.pt"
    table = Table(
        title="", columns=("run", "state", "reason"), rows=[("base,seed=1", "diverged", f"look at {path} for more")],
        prose=frozenset({"reason"}),
    )  # fmt: skip
    show(console := terminal(width), table)
    assert any(path in line for line in written(console))
    assert max(map(len, written(console))) <= width

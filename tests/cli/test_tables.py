"""Tables in terminals of several widths: nothing is cut, no number and no name is broken."""

import io

import pytest
from rich.console import Console

from minigpt.cli.tables import say, show
from minigpt.lab.tables import Table

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
    return Table(
        title="what came out", columns=columns, rows=list(rows), numbers=frozenset(columns[1:]), reads_down=True
    )


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

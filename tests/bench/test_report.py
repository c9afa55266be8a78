"""The table: on a terminal, piped, and in a file."""

import io

import pytest
from rich.console import Console

from minigpt.bench.measure import Spread
from minigpt.bench.report import Report, megabytes, milliseconds, number, ratio_of, with_unit

REPORT = Report(columns=("", "time"), rows=[("[ours]", "1.2 ms")], notes=["A note."], verdict="one takes 0.5")


def shown(**settings: object) -> str:
    output = io.StringIO()
    REPORT.show(Console(file=output, width=60, **settings))  # type: ignore[arg-type]
    return output.getvalue()


def test_piped_it_is_markdown() -> None:
    assert shown() == "A note.\n|  | time |\n| --- | --- |\n| [ours] | 1.2 ms |\none takes 0.5\n"


def test_on_a_terminal_it_has_lines() -> None:
    output = shown(force_terminal=True, color_system=None)
    assert "┃" in output
    assert "[ours]" in output  # a name in brackets is no markup
    assert output.rstrip().endswith("one takes 0.5")


def test_a_file_says_which_command_and_machine() -> None:
    text = REPORT.markdown(["minigpt", "bench", "--config", "a b.yaml"])
    assert text.startswith("`minigpt bench --config 'a b.yaml'`\n\n20")
    assert "cores" in text.splitlines()[2]
    assert text.endswith("| [ours] | 1.2 ms |\n\none takes 0.5\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (4.5678, "4.57"), (45.678, "45.7"), (99.96, "100"), (456.7, "457"), (12345.6, "12,346")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_units() -> None:
    values = Spread(0.0412, 0.04, 0.05)
    assert milliseconds(values) == "41.2 ms (40 to 50)"
    assert with_unit(values, "s") == "0.0412 s (0.04 to 0.05)"
    assert ratio_of(values) == "0.041 (0.040 to 0.050)"
    assert megabytes(None) == "–"
    assert megabytes(40_400_000) == "40.4 MB"

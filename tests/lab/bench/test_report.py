"""The table: of text, and in a file."""

from minigpt.lab.bench.measure import Spread
from minigpt.lab.bench.report import Report, ratio_text, share_text, spread_text
from minigpt.system.units import seconds_text

REPORT = Report(columns=("", "time"), rows=[("[ours]", "1.2 ms")], notes=["A note."], verdict="one takes 0.5")


def test_it_is_a_table_like_those_of_the_other_commands() -> None:
    assert REPORT.table().plain() == "          time\n[ours]  1.2 ms"


def test_a_file_says_which_command_and_machine() -> None:
    text = REPORT.markdown(["minigpt", "bench", "--config", "a b.yaml"])
    assert text.startswith("`minigpt bench --config 'a b.yaml'`\n\n20")
    assert "cores" in text.splitlines()[2]
    assert text.endswith("| [ours] | 1.2 ms |\n\none takes 0.5\n")


def test_spreads_are_told_with_their_units() -> None:
    values = Spread(0.0412, 0.04, 0.05)
    assert spread_text(values, seconds_text) == "41.2 ms (40 ms to 50 ms)"
    assert spread_text(values, ratio_text) == "0.041 (0.040 to 0.050)"
    assert spread_text(values, share_text) == "4.1% (4.0% to 5.0%)"

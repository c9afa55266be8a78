import sys

import pytest

from minigpt.data.progress import reporting


def test_the_callers_own_function_is_called() -> None:
    seen: list[tuple[str, int, int]] = []
    with reporting(lambda *report: seen.append(report)) as report:
        report("reading", 1, 2)
    assert seen == [("reading", 1, 2)]


@pytest.mark.parametrize("progress", [True, False])
def test_nothing_is_written_where_nobody_looks(progress: bool, capfd: pytest.CaptureFixture[str]) -> None:
    with reporting(progress) as report:
        report("reading", 1, 2)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_with_a_rate(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with reporting(True) as report:
        report("reading", 0, 4_000_000)
        report("reading", 2_000_000, 4_000_000)
        report("learning the vocabulary", 0, 0)
        report("tokenising", 3_000_000, 4_000_000)
    out, err = capfd.readouterr()
    assert out == ""
    assert "tokenising" in err
    assert "3 MB of 4 MB" in err

"""Running `minigpt` inside the test's own process, and what every ending of it must keep to."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings

from minigpt.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(words: Sequence[str]) -> Outcome:
    """`minigpt WORDS`. An exception that leaves `main` is a traceback for the user, and fails the test by itself."""
    # As a terminal has them, so that what cannot be encoded is found.
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", newline="\n")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    written = []
    for stream in (out, err):
        stream.flush()
        written.append(stream.buffer.getvalue().decode("utf-8"))  # type: ignore[attr-defined]
    return Outcome(code, *written)


def check_ending(outcome: Outcome) -> None:
    """0 and no error, or exit code 1 or 2 and one line of text that a terminal shows as one line."""
    if outcome.code == 0:
        assert "minigpt: error" not in outcome.err
        return
    assert outcome.code in {1, 2}, outcome
    lines = [line for line in outcome.err.split("\n") if not line.startswith("minigpt: note: ")]
    assert len(lines) == 2, outcome.err
    assert lines[1] == "", outcome.err
    check_line(lines[0].removeprefix("minigpt: error: "))
    assert lines[0].startswith("minigpt: error: "), outcome.err


def check_line(message: str) -> None:
    """One line that says something, in which nothing moves the cursor or takes colour."""
    assert message.strip()
    assert len(message.splitlines()) == 1, repr(message)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in message), repr(message)


def check_nothing_half_written(folder: Path) -> None:
    """No temporary file of a writer is left."""
    assert not list(folder.rglob("*.tmp-*"))


def more(share: float) -> int:
    """`share` times the examples of the profile, for tests whose examples take longer, or less time, than others."""
    return max(5, int(share * settings.default.max_examples))

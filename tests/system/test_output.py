"""The one way out for text: any stream takes it, and none of it moves a terminal's cursor."""

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minigpt
from minigpt.cli.main import main
from minigpt.system.files import atomic_write
from minigpt.system.output import as_json, console, echo, note, safe_streams, symbols, well_formed, write_text


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


class Narrow(io.TextIOWrapper):
    """A stream of few characters."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined, no-any-return]


def test_symbols_for_what_moves_a_cursor_or_turns_the_direction() -> None:
    assert symbols("a\x1b[31mb\x00\x07\r\x7f\x9b\u202e\u2066") == "a␛[31mb␀␇␍␡‹9b›‹202e›‹2066›"
    untouched = "line\n\tindented é 你好 🦊 \u200d \u00ad"
    assert symbols(untouched) == untouched


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_stream_of_few_characters_gets_escapes(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = Narrow(encoding), Narrow(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with safe_streams():
        echo("你\udcff")
        console().print("你", "\udcff")
        note("你\udcff")
    assert out.text() == "\\u4f60\\udcff\n\\u4f60 \\udcff\n"
    assert err.text() == "minigpt: note: \\u4f60\\udcff\n"


def test_closed_streams_take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--version"]) == 0
    assert main(["no such command"]) == 2
    assert sys.stdout is None


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)])
def test_closed_descriptors_are_not_given_to_files(closed: str, code: int, tmp_path: Path) -> None:
    """A file that is opened while descriptor 1 is free becomes descriptor 1, and gets what is printed."""
    program = (
        "import os, sys\n"
        "from minigpt.system.output import safe_streams\n"
        "with safe_streams(), open(sys.argv[1], 'w') as file:\n"
        "    os.write(1, b'lost'); os.write(2, b'lost'); print('lost'); assert file.fileno() > 2\n"
    )
    kept = tmp_path / "kept"
    words = ["sh", "-c", f'"$0" -c "$1" "$2" {closed}', sys.executable, program, str(kept)]
    assert subprocess.run(words, check=False, timeout=60, capture_output=True).returncode == code
    assert kept.read_text(encoding="utf-8") == ""


@pytest.mark.parametrize("unread", [False, True])
def test_a_reader_that_has_gone(unread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        if unread:
            with safe_streams(unread=True):
                echo("lost")
                console().print("lost as well")
        else:
            assert main(["--version"]) == 141  # as a command ends that SIGPIPE has killed
    # Nothing is left in the buffer that would be an error when it is closed.


def test_text_is_raw_in_a_pipe_and_symbols_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a\x1b[2J\x00\x07\r\nb\tc"
    for stream, shown in ((io.StringIO(), text), (Terminal(), "a␛[2J␀␇␍\nb\tc")):
        monkeypatch.setattr(sys, "stdout", stream)
        echo(text)
        assert stream.getvalue() == f"{shown}\n"
        stream.seek(0)
        stream.truncate()
        write_text(console(), text)
        assert stream.getvalue().replace("       ", "\t") in {f"{shown}\n", f"{shown}\n".replace("\t", " " * 7)}


def test_a_console_takes_text_for_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table
    from rich.text import Text

    monkeypatch.setattr(sys, "stdout", Terminal())
    table = Table("a [/b]", title="[red]")
    table.add_row("exp[lr=0.1] :smile: \x1b[2J")
    screen = console()
    screen.print("exp[lr=0.1] [/b]", Text("[red]\x9b"), table)
    shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
    for part in ("exp[lr=0.1] [/b]", "[red]‹9b›", "a [/b]", "exp[lr=0.1] :smile: ␛[2J"):
        assert part in shown


def test_json_has_null_for_what_is_no_finite_number() -> None:
    content = {"a": float("inf"), "b": [float("nan"), 1.5], "c": {"d": -float("inf")}, "e": Path("x"), "f": (1,)}
    assert json.loads(as_json(content)) == {"a": None, "b": [None, 1.5], "c": {"d": None}, "e": "x", "f": [1]}


def test_lone_bytes_of_a_path_are_escaped_in_a_file(tmp_path: Path) -> None:
    assert well_formed("a\udcffé") == "a\\udcffé"
    atomic_write(tmp_path / "file", "a\udcffé")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "a\\udcffé"


def test_nobody_else_writes_to_a_stream() -> None:
    """`print`, `Console(...)` unless it writes into a string, and `sys.stdout.write` stand in output.py alone."""
    root = Path(minigpt.__file__).parent
    for path in root.rglob("*.py"):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or "file=io.StringIO()" in map(ast.unparse, node.keywords):
                continue
            called = ast.unparse(node.func)
            assert called not in {"print", "Console", "sys.stdout.write", "sys.stderr.write"}, f"{path}:{node.lineno}"

"""All output of text: it never fails, whatever the stream, and no text can move a terminal's cursor.

A character that a stream cannot encode is written as its Python escape (`\\u2013`).
"""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from minigpt.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

REPLACEMENT = "backslashreplace"
"""Python's error handler for characters that a stream cannot encode; stderr always uses it."""

# The Unicode block Control Pictures has a symbol for each C0 control and DEL; the rest are shown by their number.
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SYMBOLS = _PICTURES | {code: f"‹{code:02x}›" for code in (*range(0x80, 0xA0), *_BIDI)}


def symbols(text: str) -> str:
    """Replace control characters by symbols (`␛`, `‹9b›`), except line ends and tabs: safe for a terminal.

    Covers C0, DEL, C1 and the bidirectional marks. Joiners stay, as letters and emoji are composed with them.
    """
    return text.translate(_SYMBOLS)


def well_formed(text: str) -> str:
    """Make `text` valid for UTF-8: lone surrogates, as from undecodable bytes in paths, are escaped."""
    return text.encode("utf-8", REPLACEMENT).decode("utf-8")


def as_json(value: Any, indent: int | None = None) -> str:
    """`value` as strict JSON: numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def echo(text: str, end: str = "\n", *, styled: bool = False) -> None:
    """Write `text` to stdout and flush: unchanged into a pipe or a file, control characters as symbols to a terminal.

    `styled` text contains our own escape sequences and is written unchanged.
    """
    sys.stdout.write((symbols(text) if sys.stdout.isatty() and not styled else text) + end)
    sys.stdout.flush()


def note(text: str) -> None:
    """Write a line to stderr: `minigpt: note: TEXT`."""
    complain(f"minigpt: note: {printable(text)}")


def complain(line: str, end: str = "\n") -> None:
    """Write a line to stderr."""
    print(line, end=end, file=sys.stderr, flush=True)


def console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> "Console":
    """A console that prints text literally: without markup, emoji codes and highlighting."""
    from rich.console import Console

    class PlainConsole(Console):
        """rich's console with control characters shown as symbols: rich itself strips some and passes others."""

        def render_str(self, text: str, **settings: Any) -> Any:
            """Replace control characters before the text is measured."""
            return super().render_str(symbols(text), **settings)

        def render(self, renderable: Any, options: Any = None) -> Any:
            """Replace control characters in rendered segments."""
            from rich.segment import Segment

            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else symbols(text), style, control)

    return PlainConsole(stderr=stderr, quiet=quiet, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def write_text(console: "Console", text: str) -> None:
    """Write a text of many lines, such as a sample: control characters as symbols to a terminal, else unchanged."""
    if console.quiet:
        return
    if console.is_terminal:
        from rich.text import Text

        console.print(Text(symbols(text)), soft_wrap=True)
    else:
        console.file.write(f"{text}\n")


@contextlib.contextmanager
def safe_streams(*, unread: bool = False) -> Iterator[None]:
    """Within the block stdout and stderr accept any text, even if they are closed or have a narrow encoding.

    With `unread`, output to a closed pipe, a terminal that hung up or a full disk is dropped without an error, so that
    a training does not end because of `| head`.
    """
    _open_closed_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    with contextlib.ExitStack() as closing:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None or getattr(stream, "closed", False):
                stream = closing.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
            elif hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=REPLACEMENT)
            setattr(sys, name, _Unread(stream) if unread else stream)
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def give_up_stdout() -> None:
    """Drop what is buffered for stdout, whose reader is gone: flushing it at exit would fail."""
    _redirect_to_null(sys.stdout)


def _open_closed_descriptors() -> None:
    """Open closed descriptors 0 to 2 on the null device: else the next opened file would take one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free one: this one


def _redirect_to_null(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Unread:
    """A stream that ignores errors of writing and delegates everything else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or drop it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            _redirect_to_null(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what is in the buffer."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            _redirect_to_null(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

"""The one way out for text: never an error, whatever the stream, and no text moves a terminal's cursor.

A character that a stream cannot hold is written as Python escapes it (`\\u2013`), by all of its streams alike.
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
"""Python's name for how a character is written that a stream cannot hold; also what its stderr always does."""

# The Unicode block Control Pictures has a symbol for each C0 control and DEL; the rest are shown by their number.
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SYMBOLS = _PICTURES | {code: f"‹{code:02x}›" for code in (*range(0x80, 0xA0), *_BIDI)}


def symbols(text: str) -> str:
    """`text` with control characters as symbols (`␛`, `‹9b›`), but for line ends and tabs: safe for a terminal.

    C0, DEL, C1, and the marks that turn the direction of writing. Joiners stay: letters and emoji are made with them.
    """
    return text.translate(_SYMBOLS)


def well_formed(text: str) -> str:
    """`text` as any UTF-8 file or protocol takes it: half a surrogate pair, as of a path's lone byte, is escaped."""
    return text.encode("utf-8", REPLACEMENT).decode("utf-8")


def as_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that every reader takes: what is no finite number is null, as are infinite sizes of devices."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def echo(text: str, end: str = "\n", *, styled: bool = False) -> None:
    """`text` to stdout at once: as it is into a pipe or a file, its control characters as symbols to a terminal.

    `styled` text holds escape sequences of ours, and none of anybody else's.
    """
    sys.stdout.write((symbols(text) if sys.stdout.isatty() and not styled else text) + end)
    sys.stdout.flush()


def note(text: str) -> None:
    """One line on stderr: `minigpt: note: TEXT`."""
    complain(f"minigpt: note: {printable(text)}")


def complain(line: str, end: str = "\n") -> None:
    """One line on stderr."""
    print(line, end=end, file=sys.stderr, flush=True)


def console(*, stderr: bool = False, quiet: bool = False, soft_wrap: bool = False) -> "Console":
    """A console to which a text is a text: without markup, emoji codes and colouring of what looks like a number."""
    from rich.console import Console

    class PlainConsole(Console):
        """rich's, which shows control characters as symbols: rich itself strips some and lets the others through."""

        def render_str(self, text: str, **settings: Any) -> Any:
            """Before it is measured."""
            return super().render_str(symbols(text), **settings)

        def render(self, renderable: Any, options: Any = None) -> Any:
            """What came as rich's own Text."""
            from rich.segment import Segment

            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else symbols(text), style, control)

    return PlainConsole(stderr=stderr, quiet=quiet, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def write_text(console: "Console", text: str) -> None:
    """A text of many lines, such as a sample, to `console`: to a terminal as `echo` does, and else as it is."""
    if console.quiet:
        return
    if console.is_terminal:
        from rich.text import Text

        console.print(Text(symbols(text)), soft_wrap=True)
    else:
        console.file.write(f"{text}\n")


@contextlib.contextmanager
def safe_streams(*, unread: bool = False) -> Iterator[None]:
    """Within the block stdout and stderr take any text, also where they are closed or hold fewer characters.

    With `unread` nobody need read on: where a pipe's reader is gone, a terminal hung up or a disk full, what is written
    is lost, and no error. So a training does not end because of `| head`.
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
    """Nobody reads stdout any more: let go what is left in its buffer, which would be an error when Python ends."""
    _to_nowhere(sys.stdout)


def _open_closed_descriptors() -> None:
    """Give descriptors 0 to 2 that are closed to nowhere: else the next file that is opened is one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one


def _to_nowhere(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Unread:
    """A stream whose errors of writing are none; what it wraps does everything else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or lose it."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            _to_nowhere(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what is in the buffer."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            _to_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

"""Cut a long text into pieces without changing a token of it."""

import re
from collections.abc import Iterator

from minigpt.data.compression import Stream

PIECE_BYTES = 4 << 20
"""The unit of work, of memory and of restarting: about this much text is read, tokenised and kept at a time."""
_WINDOW = 1 << 16
"""How far back from the end of a piece a place to cut is looked for, in bytes or characters."""

SPACE = " \t-\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space, which the tokenizers' patterns mean, for use in [...]; Python's own \\s has four more."""
_LAST_LINE_END = re.compile(r"(?s).*[^\W_](?=\n)")
_LAST_WORD_END = re.compile(rf"(?s).*[^{SPACE}](?=[{SPACE}])")


def safe_cut(window: str) -> int:
    """The last place in `window` where a text may be cut: 0 < place < len(window), whose length is 2 at least.

    GPT-2 splits a text by `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+` (the
    released encoder of Radford et al. 2019). This never joins what is no space with a space after it, and looks ahead
    only from a space: a cut between the two leaves every word, and so every token, as it was. The end of a line after
    a letter or digit comes first, for there the patterns of later models break, too. Only a text without spaces is
    cut anywhere.
    """
    found = _LAST_LINE_END.match(window) or _LAST_WORD_END.match(window)
    return found.end() if found else len(window) - 1


def cut_text(text: str, size: int) -> Iterator[str]:
    """Stretches of at most `size` characters which, joined, are `text`."""
    start = 0
    while len(text) - start > size:
        window_start = max(start, start + size - _WINDOW)
        stop = window_start + safe_cut(text[window_start : start + size])
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def cut_stream(stream: Stream, *, whole_lines: bool) -> Iterator[tuple[int, bytes, bool]]:
    """(offset, bytes, whether they are the last) of a stream, in pieces of about PIECE_BYTES.

    `whole_lines` cuts behind a newline (a longer line is one piece); otherwise `safe_cut` chooses the place.
    """
    waiting = bytearray()
    offset = searched = 0
    while block := stream.read(PIECE_BYTES):
        waiting += block
        while len(waiting) >= PIECE_BYTES:
            cut = _end_of_line(waiting, searched) if whole_lines else _safe_cut_of_bytes(waiting)
            if not cut:
                searched = len(waiting)
                break
            yield offset, bytes(waiting[:cut]), False
            del waiting[:cut]
            offset, searched = offset + cut, 0
    if waiting:
        yield offset, bytes(waiting), True


def _end_of_line(data: bytearray, searched: int) -> int:
    """Behind the last newline of the first piece, or else behind the next one, or 0; there is none up to `searched`."""
    return data.rfind(b"\n", 0, PIECE_BYTES) + 1 or data.find(b"\n", max(searched, PIECE_BYTES)) + 1


def _safe_cut_of_bytes(data: bytearray) -> int:
    """`safe_cut`, never inside a character. What is not UTF-8 is cut somewhere: whoever decodes it will say so."""
    stop = _character_start(data, PIECE_BYTES - 1)
    start = _character_start(data, max(0, stop - _WINDOW))
    window = data[start:stop].decode("utf-8", errors="replace")
    if len(window) < 2 or "\ufffd" in window:
        return stop
    return start + len(window[: safe_cut(window)].encode("utf-8"))


def _character_start(data: bytearray, place: int) -> int:
    """Back from `place` over continuation bytes, of which a character has three at most."""
    for back in range(min(4, place + 1)):
        if data[place - back] & 0xC0 != 0x80:
            return place - back
    return place

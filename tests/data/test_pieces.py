import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.data import pieces
from minigpt.data.pieces import SPACE, cut_stream, cut_text, safe_cut

TEXTS = st.text(alphabet="ab1_. ,\n\té語🦊\u3000\x1c", max_size=300)


def test_the_end_of_a_line_after_a_letter_or_digit_is_the_first_choice() -> None:
    assert safe_cut("one\ntwo three;\n four") == 3
    assert safe_cut("one1\n;\n four") == 4


def test_the_end_of_a_word_is_the_second_choice() -> None:
    assert safe_cut("one;  two; three") == len("one;  two;")


def test_a_text_without_spaces_is_cut_before_its_last_character() -> None:
    assert safe_cut("abcdef") == 5


def test_space_is_unicode_white_space() -> None:
    # https://www.unicode.org/Public/UCD/latest/ucd/PropList.txt, White_Space: 25 characters
    found = re.findall(f"[{SPACE}]", "".join(map(chr, range(0x110000))))
    assert len(found) == 25
    assert {chr(i) for i in range(0x110000) if chr(i).isspace()} - set(found) == {"\x1c", "\x1d", "\x1e", "\x1f"}


@given(TEXTS, st.integers(2, 50))
def test_cut_text_gives_bounded_parts_of_the_whole(text: str, size: int) -> None:
    parts = list(cut_text(text, size))
    assert "".join(parts) == text
    assert all(0 < len(part) <= size for part in parts)


@given(TEXTS, st.sampled_from([16, 33, 64]), st.booleans())
def test_cut_stream_gives_the_whole_in_characters_and_lines(text: str, size: int, whole_lines: bool) -> None:
    data = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", size)
        found = list(cut_stream(_Drip(data), whole_lines=whole_lines))
    assert b"".join(part for _, part, _ in found) == data
    offset = 0
    for start, part, is_last in found:
        assert start == offset
        offset += len(part)
        part.decode()  # never inside a character
        if whole_lines and not is_last:
            assert part.endswith(b"\n")
    assert not any(is_last for _, _, is_last in found[:-1])
    if data and not whole_lines:
        assert found[-1][2]
        assert len(found) >= len(data) // (2 * size)  # it does cut


def test_bytes_that_are_no_utf8_are_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 64)
    for data in (b"\x80" * 1000, b"\xff\xfe" * 500, b"\xf0" * 999):
        found = list(cut_stream(io.BytesIO(data), whole_lines=False))
        assert b"".join(part for _, part, _ in found) == data
        assert len(found) > 1


def test_a_line_longer_than_a_piece_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 16)
    data = b"x" * 5000 + b"\nshort\n"
    found = list(cut_stream(_Drip(data), whole_lines=True))
    assert found[0][1].startswith(b"x" * 5000 + b"\n")


class _Drip(io.BytesIO):
    """Gives some bytes at a time, fewer than asked for, as a decompressor may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7)

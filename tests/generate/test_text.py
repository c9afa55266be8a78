from hypothesis import given
from hypothesis import strategies as st

from minigpt.data.bpe import train_bpe
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.generate.text import StreamDecoder

BYTE = ByteTokenizer()
BPE = train_bpe(["été 五五 🦊"] * 5, 262)
CHAR = CharTokenizer("été 五🦊", end_of_text=True, unknown=True)
TOKENIZERS: list[Tokenizer] = [BYTE, BPE, CHAR]


@given(
    st.sampled_from(TOKENIZERS).flatmap(
        lambda tokenizer: st.tuples(st.just(tokenizer), st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    )
)
def test_what_streams_is_what_decodes(case: tuple[Tokenizer, list[int]]) -> None:
    tokenizer, ids = case
    decoder = StreamDecoder(tokenizer)
    assert "".join([*map(decoder.push, ids), decoder.finish()]) == tokenizer.decode(ids)


@given(st.text())
def test_a_whole_text_never_shows_half_a_character(text: str) -> None:
    decoder = StreamDecoder(BYTE)
    shown = [decoder.push(token) for token in BYTE.encode(text)]
    assert "".join(shown) == text
    assert decoder.finish() == ""
    assert "\ufffd" not in "".join(shown) or "\ufffd" in text


def test_a_character_appears_with_its_last_byte() -> None:
    decoder = StreamDecoder(BYTE)
    assert [decoder.push(token) for token in "a🦊".encode()] == ["a", "", "", "", "🦊"]


def test_a_character_that_is_never_finished_is_one_replacement_character() -> None:
    decoder = StreamDecoder(BYTE)
    assert decoder.push(0xE4) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == ""
    assert decoder.push(65) == "A"

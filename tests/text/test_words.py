import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigpt.text.bpe import LibraryTokenizer, train_bpe
from minigpt.text.words import WordEncoder, split_words

TEXTS = st.one_of(
    st.text(max_size=200),
    st.text(alphabet="aB1_'.st re\t\n\r\x0b\x1c\x1f\x7f\x00é²五 \u00a0\u2028\u3000", max_size=200),
)


@pytest.fixture(scope="module")
def tokenizer() -> LibraryTokenizer:
    return train_bpe(["it's they're I'll don't won't 123 x_1 = 'stair' naïve  \n\n  été 五 \r\n"] * 3, 300)


@settings(max_examples=300)
@given(TEXTS)
@example("don't 'stop' ='s it's\u2019s")
@example("a\x1c b \x85c\u3000 d")
def test_words_are_where_the_library_splits(text: str) -> None:
    from tokenizers import pre_tokenizers

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ends = {end for _, (_, end) in splitter.pre_tokenize_str(text)}
    place = 0
    for word in split_words(text):
        place += len(word)
        assert place in ends
    assert place == len(text)
    if text.isascii():
        assert len(list(split_words(text))) == len(ends)


@settings(max_examples=200)
@given(TEXTS)
def test_word_by_word_is_the_whole(tokenizer: LibraryTokenizer, text: str) -> None:
    assert tokenizer.encode_batch([text])[0].tolist() == tokenizer.encode(text)


def test_a_long_text_is_the_same_when_it_is_cut_and_forgotten(
    tokenizer: LibraryTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt.text.words._STRETCH", 50)
    monkeypatch.setattr("minigpt.text.words._MOST_WORDS", 10)
    text = "".join(f"def  f{i}(x_{i}):\n    return 'été'\n\n" for i in range(200))
    assert tokenizer.encode_batch([text])[0].tolist() == tokenizer.encode(text)


def test_each_distinct_word_is_encoded_once() -> None:
    asked: list[str] = []

    def encode(words: list[str]) -> list[list[int]]:
        asked.extend(words)
        return [[len(word)] for word in words]

    encoder = WordEncoder(encode)
    assert encoder.encode("to be or not to be").tolist() == [2, 3, 3, 4, 3, 3]
    assert encoder.encode(" to be").tolist() == [3, 3]
    assert sorted(asked) == [" be", " not", " or", " to", "to"]

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigpt.data.bpe import LibraryTokenizer, train_bpe
from minigpt.data.words import WordEncoder, split_words

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
        assert len(split_words(text)) == len(ends)


@settings(max_examples=200)
@given(TEXTS)
def test_word_by_word_is_the_whole(tokenizer: LibraryTokenizer, text: str) -> None:
    assert tokenizer.encode_batch([text])[0].tolist() == tokenizer.encode(text)


@pytest.mark.parametrize("repeats", [1, 20])
def test_long_and_many_texts_are_the_same_when_they_are_cut_and_forgotten(
    tokenizer: LibraryTokenizer, monkeypatch: pytest.MonkeyPatch, repeats: int
) -> None:
    monkeypatch.setattr("minigpt.data.words._BATCH_CHARACTERS", 500)
    monkeypatch.setattr("minigpt.data.words._MOST_WORDS", 10)
    texts = ["", *(f"def  f{i}(x_{i}):\n    return 'été'\n\n" * repeats for i in range(50)), "end"]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(text) for text in texts]


def recording(asked: list[str]) -> WordEncoder:
    def encode(texts: list[str]) -> list[list[int]]:
        asked.extend(texts)
        return [[len(text)] for text in texts]

    return WordEncoder(encode)


def test_each_distinct_word_is_encoded_once() -> None:
    asked: list[str] = []
    encoder = recording(asked)
    [ids] = encoder.encode_batch(["to be or not" + " to be" * 6])
    assert ids.tolist() == [2, 3, 3, 4, *[3] * 12]
    assert [ids.tolist() for ids in encoder.encode_batch([" to be", " or"])] == [[3, 3], [3]]
    assert sorted(asked) == [" be", " not", " or", " to", "to"]


def test_words_that_do_not_come_back_are_not_kept() -> None:
    asked: list[str] = []
    encoder = recording(asked)
    texts = ["one two three", "four five six"]
    assert [ids.tolist() for ids in encoder.encode_batch(texts)] == [[13], [13]]
    assert asked == texts

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.data.bpe import train_bpe
from minigpt.data.tokenizers import (
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    find_tokenizer,
    load_tokenizer,
    tokenizer_from_json,
    train_tokenizer,
)
from minigpt.errors import ConfigError, DataError

SAMPLE = "def café():\n    return '五'  # naïve 🦊\r\n"
TOKENIZERS: dict[str, Tokenizer] = {
    "byte": ByteTokenizer(),
    "char": CharTokenizer(SAMPLE, end_of_text=True, unknown=False),
    "char with unknown": CharTokenizer(SAMPLE, end_of_text=True, unknown=True),
    "bpe": train_bpe([SAMPLE] * 5, 290),
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


@given(st.sampled_from(["byte", "bpe"]), st.text())
def test_any_text_comes_back(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode_batch([text])[0]) == text


@given(st.sampled_from(sorted(TOKENIZERS)), st.text(alphabet=SAMPLE))
def test_token_bytes_add_up_to_the_text(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes()[ids].sum() == len(text.encode())


def test_it_is_a_tokenizer(tokenizer: Tokenizer) -> None:
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.token_bytes().shape == (tokenizer.vocab_size,)
    assert tokenizer.token_bytes().dtype == np.int64
    assert tokenizer.kind in ("byte", "char", "bpe")


def test_json_makes_it_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(tokenizer.to_json(), encoding="utf-8")
    again = load_tokenizer(tmp_path / "t.json")
    assert again.fingerprint == tokenizer.fingerprint
    assert again.to_json() == tokenizer.to_json()
    assert again.encode(SAMPLE) == tokenizer.encode(SAMPLE)
    assert (again.vocab_size, again.end_of_text) == (tokenizer.vocab_size, tokenizer.end_of_text)


def test_fingerprints_differ_where_tokenizers_do() -> None:
    assert len({tokenizer.fingerprint for tokenizer in TOKENIZERS.values()}) == len(TOKENIZERS)


def test_the_end_of_text_is_no_text(tokenizer: Tokenizer) -> None:
    end = tokenizer.end_of_text
    assert end is not None
    assert tokenizer.decode([end]) == ""
    assert tokenizer.token_bytes()[end] == 0


def test_the_name_of_a_special_token_is_ordinary_text() -> None:
    for name in ("byte", "bpe"):
        tokenizer = TOKENIZERS[name]
        ids = tokenizer.encode("a<|endoftext|>b")
        assert tokenizer.end_of_text not in ids
        assert tokenizer.end_of_text not in tokenizer.encode_batch(["a<|endoftext|>b"])[0]
        assert tokenizer.decode(ids) == "a<|endoftext|>b"


@pytest.mark.parametrize("bad", [-1, None])
def test_an_id_outside_the_vocabulary_is_named_with_the_limit(tokenizer: Tokenizer, bad: int | None) -> None:
    wrong = tokenizer.vocab_size if bad is None else bad
    message = f"token {wrong} is outside the vocabulary of {tokenizer.vocab_size}: ids go from 0 to"
    for decode in (tokenizer.decode, tokenizer.decode_bytes):
        with pytest.raises(DataError, match=message):
            decode([0, wrong])


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert ByteTokenizer().decode([0xE4, 0xBA, 65]) == "\ufffdA"


def test_half_a_surrogate_pair_is_refused_in_one_line() -> None:
    for name in ("byte", "bpe"):
        with pytest.raises(DataError, match=r"U\+DCFF at character 1, half a surrogate pair"):
            TOKENIZERS[name].encode("a\udcff")
        with pytest.raises(DataError, match=r"U\+DCFF"):
            TOKENIZERS[name].encode_batch(["a\udcff"])


def test_char_ids_are_in_the_order_of_code_points() -> None:
    tokenizer = CharTokenizer("banana\n", end_of_text=False, unknown=False)
    assert (tokenizer.vocab_size, tokenizer.end_of_text) == (4, None)
    assert tokenizer.encode("\nabn") == [0, 1, 2, 3]


def test_char_names_what_it_does_not_know_and_how_much_of_it() -> None:
    tokenizer = CharTokenizer("abc", end_of_text=False, unknown=False)
    with pytest.raises(
        DataError, match=r"7 character\(s\) outside the vocabulary of 3: '1', '2', '3', '4', '5' and 1 more"
    ):
        tokenizer.encode("a1234566")
    with pytest.raises(DataError, match=r"'\\udcff'"):
        tokenizer.encode("a\udcff")


def test_char_takes_the_unknown_when_asked() -> None:
    tokenizer = CharTokenizer("abc", end_of_text=True, unknown=True)
    assert (tokenizer.end_of_text, tokenizer.vocab_size) == (3, 5)
    assert tokenizer.encode("aXc") == [0, 4, 2]
    assert tokenizer.decode([0, 4, 2]) == "a\ufffdc"
    assert tokenizer.token_bytes().tolist() == [1, 1, 1, 0, 0]


def test_training_from_documents() -> None:
    assert train_tokenizer("byte", [], 0, False).vocab_size == 257
    assert train_tokenizer("char", ["ab"], 0, False).vocab_size == 2
    assert train_tokenizer("char", ["ab", "bc"], 0, False).vocab_size == 4
    assert train_tokenizer("char", ["ab", "bc"], 0, True).vocab_size == 5
    assert train_tokenizer("bpe", [SAMPLE] * 5, 260, False).vocab_size == 260
    with pytest.raises(ConfigError, match="tokenizer='gpt2' cannot be trained"):
        train_tokenizer("gpt2", [], 0, False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "t.json: not a tokenizer file: not JSON"),
        ("[" * 100_000, "t.json: not a tokenizer file: not JSON"),
        ("[1]", "t.json: not a tokenizer file: neither"),
        ("{}", "t.json: not a tokenizer file: neither"),
        ('{"model": 3}', "t.json: not a tokenizer.json that the tokenizers library can open"),
        ('{"minigpt_tokenizer": "char"}', "t.json: a char tokenizer needs `characters`"),
        ('{"minigpt_tokenizer": "word"}', "t.json: not a tokenizer file: neither"),
    ],
)
def test_a_file_that_is_no_tokenizer(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(tmp_path / "t.json")
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"no such tokenizer file, did you mean tokenizer.json\?"):
        load_tokenizer(tmp_path / "tokeniser.json")
    with pytest.raises(DataError, match="cannot be read as a tokenizer file"):
        load_tokenizer(tmp_path)
    (tmp_path / "b.json").write_bytes(b"\xff")
    with pytest.raises(DataError, match="cannot be read as a tokenizer file"):
        load_tokenizer(tmp_path / "b.json")


def test_finding_one_by_name_or_path(tmp_path: Path) -> None:
    assert find_tokenizer("byte").vocab_size == 257
    (tmp_path / "tokenizer.json").write_text(TOKENIZERS["bpe"].to_json())
    assert find_tokenizer(str(tmp_path)).vocab_size == 290
    assert find_tokenizer(str(tmp_path / "tokenizer.json")).vocab_size == 290
    with pytest.raises(DataError, match=r"tokenizer='bite' is neither one of .* did you mean byte\?"):
        find_tokenizer("bite")


def test_char_json_is_readable() -> None:
    fields = json.loads(CharTokenizer("ba", end_of_text=True, unknown=False).to_json())
    assert fields == {"minigpt_tokenizer": "char", "characters": "ab", "end_of_text": True, "unknown": False}
    assert tokenizer_from_json(json.dumps(fields)).encode("ab") == [0, 1]


def test_an_id_far_beyond_all_vocabularies_takes_no_memory(tmp_path: Path) -> None:
    fields = json.loads(train_bpe(["some text"], 257).to_json())
    fields["added_tokens"] = []
    fields["model"]["vocab"]["a"] = 2**31
    (tmp_path / "t.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match="its ids go up to 2147483648, and 16777215 is the most"):
        load_tokenizer(tmp_path / "t.json")

"""Ids written as numbers: the tokenizer of an imported model whose own was not found."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.data.number_tokenizer import NumberTokenizer
from minigpt.data.tokenizers import Tokenizer, find_tokenizer, tokenizer_from_json
from minigpt.errors import DataError
from minigpt.generate.text import encode_prompt

NUMBERS = NumberTokenizer(300)


def test_it_is_a_tokenizer_of_numbers() -> None:
    assert isinstance(NUMBERS, Tokenizer)
    assert NUMBERS.decode([17, 4]) == "17 4 "
    assert NUMBERS.decode_bytes([299]) == b"299 "
    assert NUMBERS.encode(" 17\n4\t299 ") == [17, 4, 299]
    assert NUMBERS.encode("") == []
    assert encode_prompt(NUMBERS, "") == [0]


@given(st.lists(st.integers(0, 299)))
def test_ids_come_back_and_their_bytes_add_up(ids: list[int]) -> None:
    text = NUMBERS.decode(ids)
    assert NUMBERS.encode(text) == ids
    assert NUMBERS.encode_batch([text])[0].tolist() == ids
    assert NUMBERS.token_bytes()[np.array(ids, dtype=int)].sum() == len(text.encode())


@pytest.mark.parametrize("text", ["a", "1.5", "-1", "300", "1e2", "²", "9" * 5000, "1_0", "+3", "\ud800"])
def test_anything_else_is_one_line(text: str) -> None:
    with pytest.raises(DataError) as error:
        NUMBERS.encode(f"1 {text} 2")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_ids_outside_are_refused() -> None:
    with pytest.raises(DataError, match="token 300 is outside the vocabulary of 300"):
        NUMBERS.decode([300])


def test_json_makes_it_again() -> None:
    again = tokenizer_from_json(NUMBERS.to_json())
    assert again.fingerprint == NUMBERS.fingerprint != NumberTokenizer(301).fingerprint
    assert (again.kind, again.vocab_size, again.end_of_text) == ("ids", 300, None)
    for bad in (None, 0, True, "3", 1 << 40):
        with pytest.raises(DataError, match="must be a whole number"):
            tokenizer_from_json(json.dumps({"minigpt_tokenizer": "ids", "vocab_size": bad}))


def test_it_is_not_one_to_train_with() -> None:
    with pytest.raises(DataError, match="neither one of byte, char, bpe, gpt2"):
        find_tokenizer("ids")

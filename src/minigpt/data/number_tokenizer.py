"""Ids written as numbers: for a model whose own tokenizer is not at hand."""

import json
from collections.abc import Iterable, Sequence

import numpy as np

from minigpt.data.protocol import check_ids, fingerprint_of, utf8
from minigpt.data.special_tokens import SpecialTokens
from minigpt.errors import DataError

_MOST_DIGITS = 18
"""What fits an int64; Python would convert longer numbers in quadratic time."""


class NumberTokenizer:
    """Each id is written as its decimal number and a space: the text of 17 and 4 is "17 4 ".

    Nothing learns from such a text. It lets an imported model be run, compared and measured on ids that another
    program has made, until its tokenizer is found.
    """

    kind = "ids"
    end_of_text: int | None = None
    prefix = b""
    notes: tuple[str, ...] = ()

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.special = SpecialTokens()
        self.fingerprint = fingerprint_of(self.to_json())

    def encode(self, text: str) -> list[int]:
        """The numbers of `text`, whatever white space stands between them. DataError for anything else."""
        utf8(text)
        return [self._id_of(word) for word in text.split()]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(self.encode(text), dtype=np.uint32) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("ascii")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(b"%d " % token for token in check_ids(ids, self.vocab_size))

    def token_bytes(self) -> np.ndarray:
        return np.array([len(str(token)) + 1 for token in range(self.vocab_size)], dtype=np.int64)

    def to_json(self) -> str:
        return json.dumps({"minigpt_tokenizer": "ids", "vocab_size": self.vocab_size})

    def _id_of(self, word: str) -> int:
        if not (word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS):
            shown = word if len(word) <= 40 else f"{word[:40]}..."
            raise DataError(
                f"the text holds {shown!r}, but this model came without its tokenizer: it reads ids, whole numbers "
                f"from 0 to {self.vocab_size - 1} with spaces between them"
            )
        token = int(word)
        if token >= self.vocab_size:
            raise DataError(
                f"token {token} is outside the vocabulary of {self.vocab_size}: ids go from 0 to {self.vocab_size - 1}"
            )
        return token

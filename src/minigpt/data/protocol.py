"""The interface of a tokenizer, and the checks that all tokenizers share."""

import copy
import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from minigpt.data.special_tokens import SpecialTokens
from minigpt.errors import DataError

END_OF_TEXT = "<|endoftext|>"


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back. Ids run from 0 to vocab_size - 1, and each stands for a fixed string of bytes."""

    kind: str
    """`byte`, `char`, `bpe` (whatever the `tokenizers` library runs) or `ids` (numbers)."""
    vocab_size: int
    end_of_text: int | None
    """The id that closes a document, if this vocabulary has one."""
    special: SpecialTokens
    """What a prompt begins with and a generated text ends with; see `with_special_tokens`."""
    fingerprint: str
    """sha256 of `to_json()` in hex: tokenizers with equal fingerprints encode alike."""
    prefix: bytes
    """What `encode` puts in front of a text, and what the text does not hold: a Llama's space. Empty for most."""
    notes: tuple[str, ...]
    """Changes to the file that it was read from, a sentence each."""

    def encode(self, text: str) -> list[int]:
        """The ids of an ordinary text: a special token's name in it is text like any other. DataError if impossible."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `encode` for each text, as integer arrays: the fast road for whole corpora."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 (a model may write such) become U+FFFD."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`; special tokens stand for none. DataError for an id outside the vocabulary."""

    def token_bytes(self) -> np.ndarray:
        """(V,) int64: how many bytes of text each id stands for, 0 for special tokens."""

    def to_json(self) -> str:
        """Everything needed to make this tokenizer again: `tokenizer_from_json` reads it."""


def with_special_tokens(tokenizer: Tokenizer, special: SpecialTokens) -> Tokenizer:
    """A copy of `tokenizer` that begins and ends prompts and texts as `special` says; it encodes alike."""
    changed = copy.copy(tokenizer)
    changed.special = special
    return changed


def utf8(text: str) -> bytes:
    """`text` as UTF-8. DataError for half a surrogate pair, which no UTF-8 text can hold."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise DataError(
            f"the text holds U+{code:04X} at character {error.start}, half a surrogate pair, which UTF-8 cannot hold"
        ) from None


def check_ids(ids: Iterable[int], vocab_size: int) -> np.ndarray:
    """`ids` as an int64 array, all of them inside the vocabulary. DataError names the first that is not."""
    is_array = isinstance(ids, np.ndarray) and ids.dtype.kind in "iu"
    array = np.asarray(ids, np.int64) if is_array else np.fromiter((int(token) for token in ids), dtype=np.int64)
    outside = (array < 0) | (array >= vocab_size)
    if outside.any():
        raise DataError(
            f"token {array[outside][0]} is outside the vocabulary of {vocab_size}: ids go from 0 to {vocab_size - 1}"
        )
    return array


def fingerprint_of(text: str) -> str:
    """sha256 of `text` in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()

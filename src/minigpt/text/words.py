"""Encoding a long text word by word, so that each distinct word is worked on once."""

import re
from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np

from minigpt.text.pieces import SPACE, cut_text

# GPT-2's pattern (see text/pieces.py) for ASCII, where \p{L} is A-Z and a-z, and \p{N} is 0-9.
_ASCII_WORDS = re.compile(r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", flags=re.ASCII)
_SPACED_WORDS = re.compile(rf"[{SPACE}]*[^{SPACE}]+|[{SPACE}]+")
_STRETCH = 1 << 17
_MOST_WORDS = 1 << 18
"""Words to remember, at some 200 bytes each; then all are forgotten and the frequent ones soon known again."""


class WordEncoder:
    """Ids of long texts for a tokenizer that splits them by GPT-2's pattern: no token crosses the end of a word."""

    def __init__(self, encode_words: Callable[[list[str]], list[list[int]]]) -> None:
        self._encode_words = encode_words
        self._ids: dict[str, list[int]] = {}

    def encode(self, text: str) -> np.ndarray:
        """(n,) uint32: what the tokenizer gives for the whole of `text`."""
        stretches = [self._encode_stretch(stretch) for stretch in cut_text(text, _STRETCH)]
        return np.concatenate(stretches) if stretches else np.zeros(0, dtype=np.uint32)

    def _encode_stretch(self, text: str) -> np.ndarray:
        if len(self._ids) > _MOST_WORDS:
            self._ids.clear()
        words = list(split_words(text))
        new = [word for word in set(words) if word not in self._ids]
        self._ids.update(zip(new, self._encode_words(new), strict=True))
        return np.fromiter(chain.from_iterable(map(self._ids.__getitem__, words)), dtype=np.uint32)


def split_words(text: str) -> Iterator[str]:
    """Parts of `text`, in order, between which GPT-2's pattern always splits.

    They are its words where the text is ASCII. Elsewhere, what stands between spaces is left together, so that which
    characters are letters is for the library alone to say.
    """
    if text.isascii():
        yield from _ASCII_WORDS.findall(text)
        return
    for word in _SPACED_WORDS.findall(text):
        if word.isascii():
            yield from _ASCII_WORDS.findall(word)
        else:
            yield word

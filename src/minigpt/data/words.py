"""Encoding long texts word by word, so that each distinct word is worked on once."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import numpy as np

from minigpt.data.pieces import SPACE, cut_text

# GPT-2's pattern (see data/pieces.py) for ASCII, where \p{L} is A-Z and a-z, and \p{N} is 0-9.
_ASCII_WORDS = re.compile(r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", flags=re.ASCII)
_SPACED_WORDS = re.compile(rf"[{SPACE}]*[^{SPACE}]+|[{SPACE}]+")
_BATCH_CHARACTERS = 1 << 17
_MOST_WORDS = 1 << 18
"""Words to remember, at some 200 bytes each; then all are forgotten and the frequent ones soon known again."""


class WordEncoder:
    """Ids of texts for a tokenizer that splits them by GPT-2's pattern: no token crosses the end of a word."""

    def __init__(self, encode_texts: Callable[[list[str]], list[list[int]]]) -> None:
        self._encode_texts = encode_texts
        self._ids: dict[str, bytes] = {}

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """(n,) uint32 for each text: what the tokenizer gives for the whole of it."""
        parts: list[list[np.ndarray]] = [[] for _ in texts]
        for batch in _batches(texts):
            encoded = self._encode([stretch for _, stretch in batch])
            for (index, _), ids in zip(batch, encoded, strict=True):
                parts[index].append(ids)
        return [np.concatenate(part) if part else np.zeros(0, dtype=np.uint32) for part in parts]

    def _encode(self, texts: list[str]) -> list[np.ndarray]:
        if len(self._ids) > _MOST_WORDS:
            self._ids.clear()
        words = [split_words(text) for text in texts]
        new = [word for word in set(chain.from_iterable(words)) if word not in self._ids]
        if 3 * len(new) > sum(map(len, words)):  # numbers, names, a script without spaces: words that do not come back
            return [np.array(ids, dtype=np.uint32) for ids in self._encode_texts(texts)]
        for word, ids in zip(new, self._encode_texts(new), strict=True):
            self._ids[word] = np.array(ids, dtype=np.uint32).tobytes()  # bytes are what Python joins fastest
        known = self._ids.__getitem__
        return [np.frombuffer(b"".join(map(known, each)), dtype=np.uint32) for each in words]


def split_words(text: str) -> list[str]:
    """Parts of `text`, in order, between which GPT-2's pattern always splits.

    They are its words where the text is ASCII. Elsewhere, what stands between spaces is left together, so that which
    characters are letters is for the library alone to say.
    """
    words: list[str] = []
    for stretch in [text] if text.isascii() else cut_text(text, 1 << 10):
        if stretch.isascii():
            words += _ASCII_WORDS.findall(stretch)
        else:
            for word in _SPACED_WORDS.findall(stretch):
                words += _ASCII_WORDS.findall(word) if word.isascii() else [word]
    return words


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Groups of (index of the text, stretch of it) of about _BATCH_CHARACTERS, in order."""
    batch: list[tuple[int, str]] = []
    size = 0
    for index, text in enumerate(texts):
        for stretch in cut_text(text, _BATCH_CHARACTERS):
            batch.append((index, stretch))
            size += len(stretch)
            if size >= _BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch

"""Which part of a corpus is for training and which for validation: a look at all of it, then one rule."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np

from minigpt.errors import DataError
from minigpt.text.options import SplitName
from minigpt.text.sources import Fragment, Span, read_span

Side = Literal["train", "val"]
SIDES: tuple[Side, ...] = ("train", "val")


class PieceSummary(NamedTuple):
    """What must be known of every piece before any can be tokenised."""

    n_documents: int
    n_bytes: int
    least_key: int
    greatest_key: int
    characters: str
    """The distinct characters, if they were asked for."""


def summarise_piece(piece: Iterable[Span], with_characters: bool) -> PieceSummary:
    """Read a piece once. This is also where every byte of a corpus is first checked."""
    n_documents = n_bytes = 0
    keys: list[int] = []
    seen = np.zeros(0x110000 if with_characters else 0, dtype=bool)
    for span in piece:
        for fragment in read_span(span):
            n_documents += fragment.begins
            n_bytes += fragment.n_bytes
            keys.append(fragment.key)
            if with_characters:
                seen[np.frombuffer(fragment.text.encode("utf-32-le"), dtype=np.uint32)] = True
    characters = "".join(map(chr, np.flatnonzero(seen)))
    return PieceSummary(n_documents, n_bytes, min(keys, default=1 << 64), max(keys, default=-1), characters)


@dataclass(frozen=True)
class Survey:
    """The summaries of all pieces, in order."""

    pieces: list[PieceSummary]

    @property
    def n_documents(self) -> int:
        return sum(piece.n_documents for piece in self.pieces)

    @property
    def n_bytes(self) -> int:
        """Bytes of text, as UTF-8."""
        return sum(piece.n_bytes for piece in self.pieces)

    @property
    def offsets(self) -> list[int]:
        """Where the text of each piece begins in the text of the corpus, in bytes."""
        return [0, *accumulate(piece.n_bytes for piece in self.pieces)][:-1]


@dataclass(frozen=True)
class SplitRule:
    """What is for validation: `documents` whose key is below `limit`; by `position`: all from byte `limit` on."""

    kind: Literal["documents", "position"]
    limit: int

    def apply(self, fragments: Iterable[Fragment], offset: int) -> Iterator[tuple[Side, Fragment]]:
        """Sort fragments, the first of which stands `offset` bytes into the text of the corpus, into the two sides."""
        for fragment in fragments:
            if self.kind == "documents":
                yield ("val" if fragment.key < self.limit else "train"), fragment
            else:
                yield from self._part(fragment, offset)
                offset += fragment.n_bytes

    def _part(self, fragment: Fragment, offset: int) -> Iterator[tuple[Side, Fragment]]:
        """By position. A document that the limit falls into is parted at a character; its rest begins a document."""
        cut = self.limit - offset
        if cut >= fragment.n_bytes:
            yield "train", fragment
            return
        if cut > 0:
            data = fragment.text.encode("utf-8")
            while data[cut] & 0xC0 == 0x80:
                cut -= 1
        if cut > 0:
            yield "train", fragment._replace(text=data[:cut].decode("utf-8"), ends=False, n_bytes=cut)
            rest = data[cut:].decode("utf-8")
            yield "val", fragment._replace(text=rest, begins=True, n_bytes=fragment.n_bytes - cut)
        else:
            yield "val", fragment._replace(begins=fragment.begins or offset <= self.limit)


def choose_rule(split: SplitName, val_fraction: float, survey: Survey, corpus: str) -> SplitRule:
    """The rule for a corpus. `auto`: by documents if there are several, else by position.

    By documents: a document's key, a hash of its text, decides, so the order of the documents does not matter and equal
    documents stay together. If no document falls on one side, the one nearest to the limit is put there. By position:
    the last `val_fraction` of the bytes, from the beginning of the character that the limit falls into.
    """
    n_documents = survey.n_documents
    if n_documents == 0:
        raise DataError(f"corpus {corpus}: no text in it")
    if split == "position" or (split == "auto" and n_documents == 1):
        return SplitRule("position", int(round(survey.n_bytes * (1 - val_fraction), 6)))  # 10 * (1 - 0.9) is below 1
    if n_documents == 1:
        raise DataError(f"corpus {corpus}: one document, which split=documents cannot part; split=position can")
    least = min(piece.least_key for piece in survey.pieces)
    greatest = max(piece.greatest_key for piece in survey.pieces)
    if least == greatest:
        raise DataError(f"corpus {corpus}: its {n_documents} documents are all the same; split=position can part them")
    return SplitRule("documents", min(max(int(val_fraction * 2.0**64), least + 1), greatest))

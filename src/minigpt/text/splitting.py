"""Which part of a corpus is for training and which for validation: a look at all of it, then one rule."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from minigpt.errors import DataError
from minigpt.text.sources import Fragment, Span, read_span

SplitName = Literal["train", "val"]


class PieceSummary(NamedTuple):
    """What must be known of a piece before any piece can be tokenised."""

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
            n_bytes += len(fragment.text.encode("utf-8"))
            keys.append(fragment.key)
            if with_characters:
                seen[np.frombuffer(fragment.text.encode("utf-32-le"), dtype=np.uint32)] = True
    characters = "".join(map(chr, np.flatnonzero(seen)))
    return PieceSummary(n_documents, n_bytes, min(keys, default=1 << 64), max(keys, default=-1), characters)


@dataclass(frozen=True)
class SplitRule:
    """`documents`: those whose key is below `limit` are for validation. `position`: what stands from byte `limit` on is."""

    kind: Literal["documents", "position"]
    limit: int

    def apply(self, fragments: Iterable[Fragment], offset: int) -> Iterator[tuple[SplitName, Fragment]]:
        """Sort fragments, the first of which stands `offset` bytes into the text of the corpus, into the two splits.

        The document that a position falls into is parted at a character, and its second half begins a document.
        """
        for fragment in fragments:
            if self.kind == "documents":
                yield ("val" if fragment.key < self.limit else "train"), fragment
                continue
            data = fragment.text.encode("utf-8")
            cut = min(max(self.limit - offset, 0), len(data))
            while 0 < cut < len(data) and data[cut] & 0xC0 == 0x80:
                cut -= 1
            if cut == len(data) or cut == 0:
                begins = fragment.begins or offset == self.limit
                yield ("train" if cut else "val"), fragment._replace(begins=begins)
            else:
                yield "train", fragment._replace(text=data[:cut].decode("utf-8"), ends=False)
                yield "val", fragment._replace(text=data[cut:].decode("utf-8"), begins=True)
            offset += len(data)


def choose_rule(
    split: Literal["auto", "documents", "position"], val_fraction: float, summaries: Iterable[PieceSummary], corpus: str
) -> SplitRule:
    """The rule for a corpus. `auto`: by documents if there are several, else by position.

    By documents: a document's key, a hash of its text, decides, so the order of the documents does not matter and equal
    documents stay together. If no document falls on a side, the one nearest to the limit is put there. By position: the
    last `val_fraction` of the bytes, from the character on that the cut falls into.
    """
    summaries = list(summaries)
    n_documents = sum(summary.n_documents for summary in summaries)
    if n_documents == 0:
        raise DataError(f"corpus {corpus}: no text in it")
    if split == "position" or (split == "auto" and n_documents == 1):
        n_bytes = sum(summary.n_bytes for summary in summaries)
        # Rounded first: 10 * (1 - 0.9) is a little less than 1.
        return SplitRule("position", int(round(n_bytes * (1 - val_fraction), 6)))
    least = min(summary.least_key for summary in summaries)
    greatest = max(summary.greatest_key for summary in summaries)
    if n_documents == 1:
        raise DataError(f"corpus {corpus}: it is one document, which split=documents cannot part; split=position can")
    if least == greatest:
        raise DataError(f"corpus {corpus}: its {n_documents} documents are all the same: split=position can part them")
    limit = int(val_fraction * 2.0**64)
    return SplitRule("documents", min(max(limit, least + 1), greatest))

"""Split a corpus into training and validation: survey all of it, then choose one rule."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np

from minigpt.data.options import SplitName
from minigpt.data.sources import Fragment, Span, read_span
from minigpt.errors import DataError

Side = Literal["train", "val"]
SIDES: tuple[Side, ...] = ("train", "val")


SplitKind = Literal["documents", "position", "within"]
KEYS = 1 << 64
"""`document_key` lies below this."""
_BINS = 1 << 12
_BIN_KEYS = KEYS // _BINS


class PieceSummary(NamedTuple):
    """The facts about a piece that are needed before any piece can be tokenised."""

    n_documents: int
    n_bytes: int
    held_bytes: int
    """Bytes of the documents that `split=documents` holds out, by their keys."""
    least_key: int
    least_bytes: int
    """Bytes of the documents with the least key."""
    greatest_key: int
    greatest_bytes: int
    characters: str
    """The distinct characters, if they were asked for."""


def summarise_piece(piece: Iterable[Span], val_fraction: float, with_characters: bool) -> PieceSummary:
    """Read a piece once. This is also where every byte of a corpus is first checked."""
    n_documents = 0
    keys: list[int] = []
    sizes: list[int] = []
    seen = np.zeros(0x110000 if with_characters else 0, dtype=bool)
    for span in piece:
        for fragment in read_span(span):
            n_documents += fragment.begins
            keys.append(fragment.key)
            sizes.append(fragment.n_bytes)
            if with_characters:
                seen[np.frombuffer(fragment.text.encode("utf-32-le"), dtype=np.uint32)] = True
    key_of, size_of = np.array(keys, dtype=np.uint64), np.array(sizes, dtype=np.int64)
    least, greatest = min(keys, default=KEYS), max(keys, default=-1)
    return PieceSummary(
        n_documents,
        sum(sizes),
        held_bytes=int(size_of[key_of < key_limit(val_fraction)].sum()),
        least_key=least,
        least_bytes=int(size_of[key_of == least].sum()),
        greatest_key=greatest,
        greatest_bytes=int(size_of[key_of == greatest].sum()),
        characters="".join(map(chr, np.flatnonzero(seen))),
    )


def key_limit(val_fraction: float) -> int:
    """Documents whose key is below this are held out, as far as whole documents go."""
    return int(val_fraction * 2.0**64)


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


class LongDocument(NamedTuple):
    """A document that is cut in two: places in the text of the corpus, in bytes."""

    start: int
    cut: int
    """Where its held-out end begins."""
    stop: int


class PieceSizes(NamedTuple):
    """The sizes of the documents in a piece."""

    bins: list[int]
    """Bytes of its short documents, by key: `_BINS` equal ranges."""
    long: list[tuple[int, Fragment]]
    """Long documents and parts of those that pieces share, without their texts; each with its place in the piece."""


def measure_piece(piece: Iterable[Span], least: int) -> PieceSizes:
    """Read a piece once more, for the sizes of its documents; those of `least` bytes or more are long."""
    bins = [0] * _BINS
    long: list[tuple[int, Fragment]] = []
    offset = 0
    for span in piece:
        for fragment in read_span(span):
            if fragment.begins and fragment.ends and fragment.n_bytes < least:
                bins[fragment.key // _BIN_KEYS] += fragment.n_bytes
            else:
                long.append((offset, fragment._replace(text="")))
            offset += fragment.n_bytes
    return PieceSizes(bins, long)


@dataclass(frozen=True)
class SplitRule:
    """What is for validation: `documents` whose key is below `limit`; by `position`: all from byte `limit` on; `within`
    documents: the end of each long one, and the others as by documents."""

    kind: SplitKind
    limit: int
    long: tuple[LongDocument, ...] = ()

    def apply(self, fragments: Iterable[Fragment], offset: int) -> Iterator[tuple[Side, Fragment]]:
        """Sort fragments, the first of which stands `offset` bytes into the text of the corpus, into the two sides."""
        for fragment in fragments:
            long = self._long_at(offset)
            if self.kind == "position":
                yield from _part(fragment, offset, self.limit)
            elif long is not None:
                yield from _part(fragment, offset, long.cut, close=True)
            else:
                yield ("val" if fragment.key < self.limit else "train"), fragment
            offset += fragment.n_bytes

    def _long_at(self, offset: int) -> LongDocument | None:
        """The long document that byte `offset` is of."""
        number = bisect_right(self.long, offset, key=lambda document: document.start) - 1
        return self.long[number] if number >= 0 and offset < self.long[number].stop else None


def _part(fragment: Fragment, offset: int, limit: int, *, close: bool = False) -> Iterator[tuple[Side, Fragment]]:
    """Part a fragment at byte `limit` of the corpus, at a character; what is behind it begins a document.

    What is before it ends one only with `close`: where nothing follows, nothing need be closed.
    """
    cut = limit - offset
    if cut >= fragment.n_bytes:
        yield "train", fragment._replace(ends=True) if close and cut == fragment.n_bytes else fragment
        return
    if cut > 0:
        data = fragment.text.encode("utf-8")
        while data[cut] & 0xC0 == 0x80:
            cut -= 1
    if cut > 0:
        yield "train", fragment._replace(text=data[:cut].decode("utf-8"), ends=close, n_bytes=cut)
        rest = data[cut:].decode("utf-8")
        yield "val", fragment._replace(text=rest, begins=True, n_bytes=fragment.n_bytes - cut)
    else:
        yield "val", fragment._replace(begins=fragment.begins or offset <= limit)


Measure = Callable[[int], Iterable[PieceSizes]]
"""`measure_piece` of all pieces in order, given the least size of a long document."""


def choose_rule(split: SplitName, val_fraction: float, survey: Survey, corpus: str, measure: Measure) -> SplitRule:
    """The rule for a corpus. `auto`: by position for a single document, by documents for several, and within them where
    whole ones would hold out less than half of `val_fraction` or more than double (see `misses`).

    By documents: a document's key, a hash of its text, decides, so the order of the documents does not matter and equal
    documents stay together. If no document falls on one side, the one nearest to the limit is put there. By position:
    the last `val_fraction` of the bytes, from the beginning of the character that the limit falls into. Within
    documents: see `_rule_within`. None of it depends on the tokenizer.
    """
    n_documents = survey.n_documents
    if n_documents == 0:
        raise DataError(f"corpus {corpus}: no text in it")
    if split == "position" or (split == "auto" and n_documents == 1):
        return SplitRule("position", _place_of_cut(survey.n_bytes, val_fraction))
    if n_documents == 1:
        raise DataError(f"corpus {corpus}: one document, which split=documents cannot part; split=position can")
    least = min(piece.least_key for piece in survey.pieces)
    greatest = max(piece.greatest_key for piece in survey.pieces)
    rule = SplitRule("documents", min(max(key_limit(val_fraction), least + 1), greatest))
    if split == "auto" and misses(_held_bytes(rule, survey, least, greatest) / survey.n_bytes, val_fraction):
        within, held = _rule_within(val_fraction, survey, measure)
        if min(held, survey.n_bytes - held) > 1:
            return within
    if least == greatest:
        raise DataError(f"corpus {corpus}: its {n_documents} documents are all the same; split=position can part them")
    return rule


def misses(share: float, val_fraction: float) -> bool:
    """Whether either side has less than half or more than double of what `val_fraction` gives it."""
    sides = ((share, val_fraction), (1 - share, 1 - val_fraction))
    return any(not wanted / 2 <= found <= wanted * 2 for found, wanted in sides)


def _held_bytes(rule: SplitRule, survey: Survey, least: int, greatest: int) -> int:
    """Bytes that whole documents hold out."""
    if rule.limit == least + 1:
        return sum(piece.least_bytes for piece in survey.pieces if piece.least_key == least)
    if rule.limit == greatest:
        return survey.n_bytes - sum(piece.greatest_bytes for piece in survey.pieces if piece.greatest_key == greatest)
    return sum(piece.held_bytes for piece in survey.pieces)


def _place_of_cut(n_bytes: int, val_fraction: float) -> int:
    return int(round(n_bytes * (1 - val_fraction), 6))  # 10 * (1 - 0.9) is below 1


def _rule_within(val_fraction: float, survey: Survey, measure: Measure) -> tuple[SplitRule, int]:
    """A document longer than the smaller side should be is cut, and its last `val_fraction` held out. The others go
    whole, those with the least keys, until the share is reached: missed by half of such a document at most.

    Gives the rule, and about how many bytes it holds out.
    """
    least = max(1, int(survey.n_bytes * min(val_fraction, 1 - val_fraction)))
    bins = np.zeros(_BINS, dtype=np.int64)
    long: list[LongDocument] = []
    for parts in _documents_of(measure(least), survey.offsets, bins):
        n_bytes = sum(part.n_bytes for _, part in parts)
        if n_bytes < least:  # longer than a piece, and yet a short one
            bins[parts[0][1].key // _BIN_KEYS] += n_bytes
            continue
        start = parts[0][0]
        cut = start + _place_of_cut(n_bytes, val_fraction)
        # Not inside the first character of a part: the part before it would not know that it is the last.
        cut = next((place for place, _ in parts[1:] if place <= cut < place + 4), cut)
        long.append(LongDocument(start, cut, start + n_bytes))
    held = sum(document.stop - document.cut for document in long)
    reached = np.concatenate([[0], np.cumsum(bins)])
    number = int(np.abs(reached + held - survey.n_bytes * val_fraction).argmin())
    rule = SplitRule("within" if long else "documents", number * _BIN_KEYS, tuple(long))
    return rule, held + int(reached[number])


def _documents_of(
    pieces: Iterable[PieceSizes], offsets: Sequence[int], bins: np.ndarray
) -> Iterator[list[tuple[int, Fragment]]]:
    """The parts of each document that was not put into `bins`, with their places in the text of the corpus."""
    parts: list[tuple[int, Fragment]] = []
    for offset, sizes in zip(offsets, pieces, strict=True):
        bins += np.array(sizes.bins)
        for place, fragment in sizes.long:
            parts.append((offset + place, fragment))
            if fragment.ends:
                yield parts
                parts = []


def held_out(split_by: str, val_fraction: float | None, train_bytes: int, val_bytes: int) -> str:
    """The held-out share of a text, and how it was chosen: `10.0% (whole documents)`."""
    share = val_bytes / max(1, train_bytes + val_bytes)
    words = [_HOW[split_by]] if split_by in _HOW else []
    if split_by == "documents" and val_fraction is not None and misses(share, val_fraction):
        words.append(f"val_fraction={val_fraction:g} is missed: split=position would hit it")
    return f"{share:.1%}" + (f" ({'; '.join(words)})" if words else "")


_HOW: dict[str, str] = {
    "documents": "whole documents",
    "position": "the end of the text",
    "within": "the ends of long documents, short ones whole",
}

"""Whether a tokenizer gives its text back: tried on the text itself, for no file says so of itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from minigpt.data.options import PrepareOptions
from minigpt.data.protocol import Tokenizer
from minigpt.data.sources import Fragment
from minigpt.errors import DataError

_BLOCK = 1 << 16
_SHOWN = 16  # characters


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a text in a round trip through a tokenizer."""

    documents: int = 0
    """That come back changed."""
    of_documents: int = 0
    lost_bytes: int = 0
    """Bytes of the text without an equal in what comes back: none where there is only more of it."""
    of_bytes: int = 0
    first: str = ""
    """The first place, in words."""

    def __bool__(self) -> bool:
        return self.documents > 0

    def __add__(self, other: "Loss") -> "Loss":
        sums: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return Loss(**sums, first=self.first or other.first)

    @classmethod
    def from_plain(cls, values: Any) -> "Loss":
        """From the plain values of `as_plain`; KeyError, TypeError or ValueError for what is none."""
        counts: dict[str, Any] = {name: int(values[name]) for name in _COUNTS}
        return cls(**counts, first=str(values["first"]))

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lost = f"{100 * self.lost_bytes / max(1, self.of_bytes):.2g} % of the bytes"
        return f"{lost}, in {self.documents:,} of {self.of_documents:,} document{'s' * (self.of_documents > 1)}"


_COUNTS = ("documents", "of_documents", "lost_bytes", "of_bytes")


@dataclass(frozen=True, kw_only=True)
class ByteCorrection:
    """What the sum of `token_bytes` over tokens of a text must be corrected by to be the bytes of the text.

    bytes = scale x (sum of token_bytes[targets] - sum of prefix_bytes[targets] where the input is `end_of_text`).

    The second sum takes back the space that some tokenizers put in front of each document, so that tokenizers which
    give the text back are counted exactly, in any window. For those that do not, and for texts whose documents no token
    closes, `scale` is the bytes of the whole text / what is so counted in it: what a window lost is not known.
    """

    end_of_text: int | None
    prefix_bytes: np.ndarray
    """(V,) int64."""
    scale: float

    def padded(self, vocab_size: int) -> "ByteCorrection":
        """With zeros for the ids that only pad a vocabulary."""
        return replace(self, prefix_bytes=np.pad(self.prefix_bytes, (0, vocab_size - len(self.prefix_bytes))))


class RoundTrip:
    """Compares fragments of documents with what a tokenizer makes of them."""

    def __init__(self, tokenizer: Tokenizer, *, starts_are_seen: bool) -> None:
        """`starts_are_seen`: whether a document's first token can be recognised (see ByteCorrection)."""
        self._tokenizer = tokenizer
        self._starts_are_seen = starts_are_seen
        self._token_bytes: np.ndarray | None = None

    def try_on(self, fragment: Fragment, ids: np.ndarray, document: int) -> tuple[Loss, int]:
        """What a fragment of document number `document` (from 1) loses, and the bytes that its tokens are taken for."""
        text, back = fragment.text.encode("utf-8"), self._decode(ids, fragment.begins)
        tried = Loss(of_documents=int(fragment.begins), of_bytes=len(text))
        prefix = self._tokenizer.prefix
        hidden = len(prefix) if prefix and fragment.begins and not self._starts_are_seen else 0
        if back == text or self._tokenizer.kind == "ids":  # a list of numbers is not its white space
            return tried, len(text) + hidden
        if self._token_bytes is None:
            self._token_bytes = self._tokenizer.token_bytes()
        counted = int(self._token_bytes[ids].sum()) - (len(prefix) if fragment.begins and not hidden else 0)
        missing = _histogram(text) - _histogram(back)
        first = f"in document {document:,}, {_first_difference(text, back)}"
        lost = int(missing[missing > 0].sum())
        return replace(tried, documents=1, lost_bytes=lost, first=first), max(0, counted)

    def _decode(self, ids: np.ndarray, begins: bool) -> bytes:
        """The text of `ids` without the space that the tokenizer put in front of the document."""
        blocks = (ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK))
        back = b"".join(map(self._tokenizer.decode_bytes, blocks))
        return back.removeprefix(self._tokenizer.prefix) if begins else back


def total_loss(losses: Sequence[Loss]) -> Loss:
    """Sum losses; of the documents, no more are changed than there are."""
    summed = sum(losses, Loss())
    return replace(summed, documents=min(summed.documents, max(1, summed.of_documents)))


def _histogram(data: bytes) -> np.ndarray:
    return np.bincount(np.frombuffer(data, np.uint8), minlength=256)


def _first_difference(text: bytes, back: bytes) -> str:
    ours, theirs = (data.decode("utf-8", errors="replace") for data in (text, back))
    pairs = enumerate(zip(ours, theirs, strict=False))
    place = next((index for index, (one, other) in pairs if one != other), min(len(ours), len(theirs)))
    shown = slice(max(0, place - _SHOWN), place + _SHOWN)
    return f"character {place + 1:,}, {ours[shown]!r} comes back as {theirs[shown]!r}"


def refuse_loss(options: PrepareOptions, loss: Loss | None) -> None:
    """Raise DataError where a text loses something in its tokenizer, unless that is allowed."""
    if loss and not options.allow_lossy_tokenizer:
        raise DataError(
            f"tokenizer={options.tokenizer} does not give the text of {options.corpus} back: {loss.first}; of the "
            f"{loss.of_bytes:,} bytes read it loses {loss}, so bits per byte would compare with no other tokenizer's; "
            "allow_lossy_tokenizer=true trains all the same"
        )

"""Which text a model was trained and validated on, by content: names and paths do not count."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """The content of a run's data. An empty field is not known, and what is not known is neither the same nor another.

    `train` and `val` are the hashes of the texts themselves (`TokenSplit.text_hash`), whatever tokenizer cut them;
    `fingerprint` is that of the tokenizer and the tokens of both (`Prepared.fingerprint`).
    """

    train: str = ""
    val: str = ""
    fingerprint: str = ""

    @classmethod
    def of(cls, texts: Any, fingerprint: Any) -> "DataIdentity":
        """From the plain values of a provenance or a checkpoint, whatever they are: `texts` has `train` and `val`."""
        hashes = {side: texts.get(side) for side in ("train", "val")} if isinstance(texts, Mapping) else {}
        known = {side: value for side, value in hashes.items() if isinstance(value, str)}
        return cls(**known, fingerprint=fingerprint if isinstance(fingerprint, str) else "")

    @property
    def texts(self) -> dict[str, str]:
        """The plain values that `of` reads."""
        return {"train": self.train, "val": self.val}

    def same_held_out(self, other: "DataIdentity") -> bool | None:
        """Whether both are validated on one text; None: not known."""
        return self._same(other, self.val, other.val)

    def same_training(self, other: "DataIdentity") -> bool | None:
        """Whether both learn from one text; None: not known."""
        return self._same(other, self.train, other.train)

    def _same(self, other: "DataIdentity", ours: str, theirs: str) -> bool | None:
        if ours and theirs:
            return ours == theirs
        # Older runs have no hash of the text. The same tokens are the same text; other tokens may be of either part.
        return True if self.fingerprint and self.fingerprint == other.fingerprint else None

"""Ids with a meaning of their own: what begins, surrounds and ends the texts that a model reads and writes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from minigpt.errors import DataError, shown


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """The special tokens of a model. Our own models have one, the end of a document, which also begins an empty prompt.

    Those of a model from elsewhere stand in its files; they are kept with its checkpoint.
    """

    bos: int | None = None
    """The token that an empty prompt begins with."""
    stop: tuple[int, ...] = ()
    """Each of them ends a generated text."""
    pad: int | None = None
    before: tuple[int, ...] = ()
    """In front of every prompt: the tokenizer's template."""
    after: tuple[int, ...] = ()
    """Behind every prompt."""
    files: Mapping[str, Any] = field(default_factory=dict)
    """The contents of the files that said all this, by their names, for an export to write again."""

    def __post_init__(self) -> None:
        for name in ("stop", "before", "after"):
            if not all(_is_id(each) for each in getattr(self, name)):
                raise DataError(f"special_tokens.{name}={shown(getattr(self, name))} must be ids, whole numbers from 0")
        for name in ("bos", "pad"):
            value = getattr(self, name)
            if value is not None and not _is_id(value):
                raise DataError(f"special_tokens.{name}={shown(value)} must be an id, a whole number from 0, or null")

    @property
    def meaning(self) -> tuple[object, ...]:
        """What they do, wherever they come from."""
        return self.bos, self.stop, self.before, self.after

    def to_dict(self) -> dict[str, Any]:
        """Plain values: lists for tuples."""
        fields = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def ending_with(end_of_text: int | None) -> SpecialTokens:
    """The special tokens of a vocabulary of which only the end of a document is known."""
    return SpecialTokens() if end_of_text is None else SpecialTokens(bos=end_of_text, stop=(end_of_text,))


def special_tokens_from_dict(fields: Any, vocab_size: int) -> SpecialTokens:
    """The inverse of `to_dict`; DataError for anything else, and for ids that the model lacks."""
    names = set(SpecialTokens.__dataclass_fields__)
    if not isinstance(fields, dict) or set(fields) != names or not isinstance(fields["files"], dict):
        raise DataError(f"special_tokens must be a mapping of {', '.join(sorted(names))}")
    if not all(isinstance(fields[name], list) for name in ("stop", "before", "after")):
        raise DataError("special_tokens: stop, before and after must be lists of ids")
    values: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in fields.items()}
    special = SpecialTokens(**values)
    for token in (*special.stop, *special.before, *special.after, special.bos or 0):
        if token >= vocab_size:
            raise DataError(f"special_tokens: id {token} is outside the model's vocabulary of {vocab_size}")
    return special


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

"""Reduce nested values to what JSON can hold."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MOST_PARTS, DEEPEST = 10_000, 32
"""The most parts of one value, and levels of nesting. A checkpoint's provenance has some thirty parts; a part that is
shared counts at each of its places."""
_LARGEST = 2**63
"""Whole numbers beyond it are no longer the same to every reader."""


def plain_values(value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """`value` of text, finite numbers, true, false, null, lists and mappings alone, and the dotted names of the rest.

    The rest is left out: a mapping then lacks it, a list is shorter. Tuples become lists.
    """
    walk = _Walk()
    return dict(walk.entries(value, "", DEEPEST)), walk.dropped


@dataclass
class _Walk:
    """A walk through a value: how many parts may still come, and what was left out."""

    left: int = MOST_PARTS
    dropped: list[str] = field(default_factory=list)

    def entries(self, value: dict[Any, Any], name: str, depth: int) -> Iterator[tuple[str, Any]]:
        """Yield the entries of a mapping that are plain."""
        for key, each in value.items():
            if isinstance(key, str):
                yield from ((key, plain) for plain in self.part(each, f"{name}.{key}".strip("."), depth - 1))
            else:
                self.drop(f"{name}.<{type(key).__name__}>".strip("."))

    def part(self, value: Any, name: str, depth: int) -> Iterator[Any]:
        """Yield `value` without its parts that are not plain; nothing if it is not plain itself."""
        self.left -= 1
        if self.left < 0 or depth < 0:
            self.drop(name)
        elif isinstance(value, dict):
            yield dict(self.entries(value, name, depth))
        elif isinstance(value, list | tuple):
            inside = ((f"{name}[{index}]", each) for index, each in enumerate(value))
            yield [plain for inner, each in inside for plain in self.part(each, inner, depth - 1)]
        elif _is_plain(value):
            yield value
        else:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Note what is left out, as long as there are few."""
        if len(self.dropped) < MOST_PARTS:
            self.dropped.append(name)


def _is_plain(value: Any) -> bool:
    if isinstance(value, int):  # true and false too
        return abs(value) < _LARGEST
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))

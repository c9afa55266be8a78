"""What to call a group of runs."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

ABSENT = object()
"""The value of a setting that a config lacks: another than any."""
_LONGEST = 3  # settings in one label


def labels(settings: Sequence[dict[str, Any]], names: Sequence[Sequence[str]]) -> list[str]:
    """A name for each group: `rotary`, `n_head=2`, `position=rotary, n_head=2`, or what its runs' names begin with.

    `settings` are those that differ, by group, `names` the runs of each. The first group is the baseline: where several
    settings differ, the others are called by what they have and it has not.
    """
    keys = list(dict.fromkeys(key for each in settings for key in each))
    if len(settings) == 1 or not keys:
        return [stem(each) for each in names]
    if len(keys) == 1:
        return distinct([setting_text(keys[0], each.get(keys[0]), alone=True) for each in settings], names)
    made = [stem(names[0])]
    for each, own in zip(settings[1:], names[1:], strict=True):
        changed = [key for key in keys if each.get(key, ABSENT) != settings[0].get(key, ABSENT)]
        changes = ", ".join(setting_text(key, each.get(key), alone=False) for key in changed)
        made.append(changes if len(changed) <= _LONGEST else stem(own))
    return distinct(made, names)


def stem(names: Sequence[str]) -> str:
    """What the names of a group's runs have in common: `base` of `base-s1` and `base-s2`, or of `base` and `base-2`."""
    if len(names) == 1:
        return names[0]
    seedless = {re.sub(r"[-_., ]+(seed|s)?[-_.=]?\d+$", "", name) for name in names}
    if len(seedless) == 1:
        return seedless.pop() or names[0]
    letters = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))
    common = "".join(column[0] for column in letters)
    if any(name[len(common) :][:1].isdigit() for name in names):  # it ends within a number
        common = common.rstrip("0123456789")
    return common.rstrip("-_., /") or names[0]


def setting_text(key: str, value: Any, *, alone: bool) -> str:
    """`rotary`, where a word says enough by itself; else `n_head=2`."""
    is_word = isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z][\w-]*", value))
    return value if is_word and alone else f"{key.rpartition('.')[2]}={told(value)}"


def told(value: Any) -> str:
    """A setting's value as YAML says it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def distinct(made: list[str], names: Sequence[Sequence[str]]) -> list[str]:
    """`made`, but for labels that would stand twice; `names` are the runs of each group, all different."""
    for instead in (stem, lambda own: own[0]):
        made = [label if made.count(label) == 1 else instead(own) for label, own in zip(made, names, strict=True)]
    return made if len(set(made)) == len(made) else [own[0] for own in names]

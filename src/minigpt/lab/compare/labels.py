"""Labels of groups of runs."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from minigpt.system.components import is_dotted

ABSENT = object()
"""The value of a setting that a config lacks; unequal to any other."""
_LONGEST = 3  # settings in one label


def labels(settings: Sequence[dict[str, Any]], names: Sequence[Sequence[str]]) -> list[str]:
    """Label each group: `rotary`, `n_head=2`, `position=rotary, n_head=2`, or the common beginning of its runs' names.

    `settings` are the differing ones of each group, `names` the names of its runs. The first group is the baseline:
    where several settings differ, the others are labelled by their differences from it.
    """
    keys = list(dict.fromkeys(key for each in settings for key in each))
    if len(settings) == 1 or not keys:
        return [stem(each) for each in names]
    if len(keys) == 1:
        return distinct([setting_text(keys[0], each.get(keys[0]), alone=True) for each in settings], names)
    found = [stem(names[0])]
    for each, own in zip(settings[1:], names[1:], strict=True):
        changed = [key for key in keys if each.get(key, ABSENT) != settings[0].get(key, ABSENT)]
        changes = ", ".join(setting_text(key, each.get(key), alone=False) for key in changed)
        found.append(changes if len(changed) <= _LONGEST else stem(own))
    return distinct(found, names)


def stem(names: Sequence[str]) -> str:
    """The common beginning of the names of runs: `base` of `base-s1` and `base-s2`, or of `base` and `base-2`."""
    if len(names) == 1:
        return names[0]
    seedless = {re.sub(r"[-_., ]+(seed|s)?[-_.=]?\d+$", "", name) for name in names}
    if len(seedless) == 1:
        return seedless.pop() or names[0]
    letters = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))
    common = "".join(column[0] for column in letters)
    if any(name[len(common) :][:1].isdigit() for name in names):  # it would end within a number
        common = common.rstrip("0123456789")
    return common.rstrip("-_., /") or names[0]


def setting_text(key: str, value: Any, *, alone: bool) -> str:
    """`rotary` or `my_ideas.Spiral` for a name that is the only difference; else `n_head=2`."""
    is_word = isinstance(value, str) and (is_dotted(value) or bool(re.fullmatch(r"[A-Za-z][\w-]*", value)))
    return value if is_word and alone else f"{key.rpartition('.')[2]}={yaml_text(value)}"


def yaml_text(value: Any) -> str:
    """A setting's value as YAML writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def distinct(found: list[str], names: Sequence[Sequence[str]]) -> list[str]:
    """Replace labels that occur twice; `names` are the names of each group's runs, all different."""
    for instead in (stem, lambda own: own[0]):
        found = [label if found.count(label) == 1 else instead(own) for label, own in zip(found, names, strict=True)]
    return found if len(set(found)) == len(found) else [own[0] for own in names]

"""Every setting with its type, default and meaning, read from the dataclasses: configs/base.yaml and docs/settings.md.

`python -m minigpt.cli.settings` writes both again, in a clone.
"""

import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from minigpt.cli.keys import ELSEWHERE, GROUPS
from minigpt.cli.options import choices_of, field_docs
from minigpt.cli.parser import SEED, SEED_HELP
from minigpt.system.shipped_configs import FOLDER
from minigpt.training.config import TRAINER_DEFAULTS, TRAINER_HELP

_COLUMN, _WIDTH = 35, 128
"""Where the comments of base.yaml begin, and how long its lines are."""
_KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text", dict: "mapping", NoneType: "null"}


@dataclass(frozen=True)
class Setting:
    """One key of a config."""

    group: str
    """Empty for seed_everything."""
    name: str
    default: Any
    kind: str
    """Its choices, or its type in words."""
    choices: tuple[str, ...]
    help: str


def settings() -> Iterator[Setting]:
    """Yield every setting that base.yaml shows, in its order."""
    yield Setting("", "seed_everything", SEED, "whole number", (), SEED_HELP)
    for group, config in GROUPS.items():
        kinds, docs = get_type_hints(config), field_docs(config)
        for field in fields(config):
            if f"{group}.{field.name}" not in ELSEWHERE:
                default = field.default if field.default_factory is MISSING else field.default_factory()
                choices = tuple(choices_of(kinds[field.name]))
                yield Setting(group, field.name, default, _kind(kinds[field.name]), choices, docs[field.name])
    for name, default in TRAINER_DEFAULTS.items():
        yield Setting("trainer", name, default, "", (), TRAINER_HELP[name])


def _kind(kind: Any) -> str:
    """Name a type in words, for a reader of YAML."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_kind, get_args(kind))))
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        inner = [_kind(part) for part in get_args(kind) if part is not ...]
        return f"list of {inner[0]}s" if inner[0][-1] != "s" else "list"
    return _KINDS[get_origin(kind) or kind]


def base_yaml(head: str) -> str:
    """Return the text of base.yaml below its leading comment `head`."""
    lines, group = [head.rstrip("\n"), ""], ""
    for each in settings():
        if each.group != group:
            group = each.group
            note = {"model": "the vocabulary is the tokenizer's", "trainer": "any argument of Lightning's Trainer"}
            lines += ["", f"{f'{group}:':<{_COLUMN}}# {note[group]}" if group in note else f"{group}:"]
        key = f"{'  ' if group else ''}{each.name}: {_yaml(each.default)}"
        comment = f"{' | '.join(each.choices)}: {each.help}" if each.choices else each.help
        first, *more = textwrap.wrap(comment, _WIDTH - _COLUMN - 2)
        lines.append(f"{key:<{_COLUMN - 1}} # {first}")
        lines += [f"{'':<{_COLUMN}}# {line}" for line in more]
    return "\n".join(lines) + "\n"


def _yaml(value: Any) -> str:
    if isinstance(value, float) and 0 < value < 0.01:  # YAML reads 3e-3 as a text
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa)}e{int(exponent)}"
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def settings_page() -> str:
    """Return docs/settings.md: a table for each group."""
    lines = [
        "# Settings",
        "",
        "Every key of a config, from the dataclasses that check it: `python -m minigpt.cli.settings` writes this page.",
        "Each is an option of `minigpt fit` too: `--model.n_layer 6`. `null` is no value.",
    ]
    group = None
    for each in settings():
        if each.group != group:
            group = each.group
            lines += ["", f"## {group or 'seed_everything'}", ""]
            if group == "trainer":
                lines += ["Any argument of Lightning's Trainer; these have a default of minigpt's own.", ""]
            lines += ["| setting | default | type | meaning |", "|---|---|---|---|"]
        key = f"{group}.{each.name}" if group else each.name
        cells = [f"`{key}`", f"`{_yaml(each.default)}`", each.kind, each.help.replace("|", "\\|")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_all() -> None:
    """Write base.yaml, under the comment that it begins with, and docs/settings.md."""
    base = FOLDER / "base.yaml"
    head = base.read_text(encoding="utf-8").partition("\n\n")[0]
    base.write_text(base_yaml(head), encoding="utf-8")
    page = FOLDER.parent / "docs" / "settings.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    write_all()

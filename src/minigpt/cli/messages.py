"""jsonargparse's errors in one line and in the words of a config."""

import re
from dataclasses import fields

from minigpt.errors import did_you_mean
from minigpt.model.config import GPTConfig
from minigpt.system.shipped_configs import shipped_configs

TYPES = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "a text",
    "<class 'dict'>": "a mapping",
    "<class 'list'>": "a list",
    "<class 'tuple'>": "a list, as in [a, b]",
    "<class 'NoneType'>": "null",
}
"""A Python type in words."""


def in_words(kind: str) -> str:
    """Name a type, as jsonargparse writes it, for a reader of YAML."""
    length = re.fullmatch(r"tuple with (\d+) elements?", kind)
    return f"a list of {length[1]} values" if length else TYPES.get(kind, kind)


def one_line(message: str) -> str:
    """Rewrite an error of jsonargparse: `model.n_head=x must be a whole number`."""
    text = re.sub(r"\s+", " ", message).strip()
    key = re.match(r'(?:Parser key|Key|Option) "([\w.]+)": ', text)
    value = re.search(r"(?:Got value|Given value): (.*)$", text)
    kinds = list(dict.fromkeys(re.findall(r"Expected an? (.+?)(?=\. Got value| - Expected| Given value|$)", text)))
    if not (key and value and kinds):
        word = re.match(r"unrecognized arguments: (\S+)", text)
        is_config = word and (word[1].endswith((".yaml", ".yml")) or word[1] in shipped_configs())
        hint = f", did you mean --config {word[1]}?" if word and is_config else ""
        return text.replace("unrecognized arguments:", "unexpected") + hint
    literal = re.search(r"Literal\[(.*?)\]", " ".join(kinds))
    if literal:
        choices = re.findall(r"'([^']*)'", literal[1])
        if key[1] == "trainer.precision":  # Lightning has more, and numbers
            from minigpt.system.precision import PRECISIONS

            choices = list(PRECISIONS)
        return f"{key[1]}={value[1]} must be one of {', '.join(choices)}{did_you_mean(value[1], choices)}"
    if kinds == ["<class 'tuple'>"] and value[1].startswith("["):
        return (
            f"{key[1]}={value[1]} cannot be read as a list, as in [a, b]: a bracket, a comma or a colon is out of place"
        )
    return f"{key[1]}={value[1]} must be {' or '.join(in_words(kind) for kind in kinds)}"


def with_model_prefix(message: str) -> str:
    """Spell the fields that GPTConfig names in an error as keys of the config: `model.n_head`.

    A name is one where a value follows, or where it is no English word (`n_ff`, not `bias`).
    """
    names = [field.name for field in fields(GPTConfig)]
    spelt = "|".join(f"{name}(?==)" if "_" not in name else rf"{name}\b" for name in names)
    return re.sub(rf"(?<![\w.'])(?:{spelt})", r"model.\g<0>", message)

"""The two model families of `transformers` that our settings can express, and the choice between them."""

from collections.abc import Mapping
from typing import Any

from minigpt.errors import CheckpointError, ConfigError, shown
from minigpt.interop.family import Family
from minigpt.interop.gpt2 import GPT2
from minigpt.interop.llama import LLAMA
from minigpt.model.config import GPTConfig

FAMILIES = {family.model_type: family for family in (GPT2, LLAMA)}


def read_config(fields: Any, source: object) -> tuple[Family, GPTConfig, list[str]]:
    """Return the family, our settings and notes of a parsed config.json.

    Raises CheckpointError, one line that names the field, its value and the rule, for what we cannot express.
    """
    if not isinstance(fields, dict):
        raise CheckpointError(f"{source}: a config.json must be a mapping, not a {type(fields).__name__}")
    model_type = fields.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise CheckpointError(f"{source}: model_type={shown(model_type)} must be one of {', '.join(FAMILIES)}")
    for name, value in family.fixed.items():
        if fields.get(name, value) != value:
            raise CheckpointError(f"{source}: {name}={shown(fields[name])} cannot be imported: it must be {value!r}")
    try:
        settings, notes = family.read({**family.defaults, **fields})
        return family, GPTConfig(**settings), notes
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from None


def write_config(family: Family, config: GPTConfig, ids: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of config.json for a model of ours; `ids` are those of its special tokens."""
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        **family.write(config),
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
        **ids,
    }


def family_for(config: GPTConfig) -> Family:
    """Return the family that can express `config`; ConfigError, one line, names each setting that none can."""
    obstacles = {family.title: _obstacles(family, config) for family in FAMILIES.values()}
    for family in FAMILIES.values():
        if not obstacles[family.title]:
            return family
    obstacle_text = " nor ".join(f"{title} ({'; '.join(reasons)})" for title, reasons in obstacles.items())
    raise ConfigError(f"this model cannot be exported: neither {obstacle_text} can express it")


def _obstacles(family: Family, config: GPTConfig) -> list[str]:
    values = {**config.to_dict(), "n_kv_head": "n_head" if config.kv_heads == config.n_head else config.kv_heads}
    return [
        f"{name}={values[name]} is not {' or '.join(map(str, allowed))}"
        for name, allowed in family.expressible.items()
        if values[name] not in allowed
    ]

"""One safetensors file with our names of the weights, and config and tokenizer in its metadata."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from minigpt.data.protocol import Tokenizer, with_special_tokens
from minigpt.data.special_tokens import special_tokens_from_dict
from minigpt.data.tokenizers import tokenizer_from_json
from minigpt.errors import CheckpointError, ConfigError, DataError, shown
from minigpt.interop.foreign import ForeignModel, build, check_vocabulary, largest_difference, naming, random_logits
from minigpt.interop.json_values import plain_values
from minigpt.interop.names import EMBEDDING, HEAD, check_weights, expected_shapes
from minigpt.interop.tokenizer_files import named_tokenizer
from minigpt.interop.weight_files import check_is_file, read_safetensors, write_safetensors
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.runs.checkpoint import FORMAT, Checkpoint
from minigpt.system.files import atomic_path, home_path

_FACTS: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "val_loss": (float, int, type(None)),
    "data": (dict,),
    "data_fingerprint": (str,),
    "texts": (dict,),
    "provenance": (dict,),
}
"""What `facts` in the metadata keeps of the checkpoint."""


def export_file(model: GPT, checkpoint: Checkpoint, out: Path) -> tuple[float, list[str]]:
    """Write `out`: weights in float32, a tied matrix once; metadata `config`, `tokenizer` and `facts`, each JSON.

    Gives the largest difference of the logits of what was read again, which is 0, and notes for the user, of facts that
    are not plain values and were left out. CheckpointError where the difference is not 0; `out` is then as it was.
    """
    tied = model.config.tie_embeddings
    weights = {
        name: value.detach().float().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
        if not (name == HEAD and tied)
    }
    kept, dropped = plain_values({"format": FORMAT, **{name: getattr(checkpoint, name) for name in _FACTS}})
    facts = {"val_loss": None, **kept}  # one that is not finite is none
    metadata = {
        "config": json.dumps(model.config.to_dict()),
        "tokenizer": checkpoint.tokenizer.to_json(),
        "special_tokens": json.dumps(checkpoint.tokenizer.special.to_dict()),
        "facts": json.dumps(facts, allow_nan=False),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary, naming(out, temporary):
        write_safetensors(temporary, weights, metadata)
        foreign = read_file(str(temporary))
        expected = random_logits(model, model.config)
        difference, _ = largest_difference(random_logits(build(foreign), model.config), expected)
        if difference != 0 or not _same(foreign.tokenizer, checkpoint.tokenizer):
            raise CheckpointError(f"{out}: read again, it is not what was written: logits differ by {difference:.3g}")
    return difference, [f"left out, as JSON has no words for it: {_some(dropped)}"] if dropped else []


def read_file(source: str, tokenizer: str | None = None) -> ForeignModel:
    """The inverse of `export_file`; CheckpointError, one line, for a file that is damaged or not one of these."""
    path = home_path(source)
    check_is_file(path, "safetensors")
    weights, metadata = read_safetensors(path)
    for name in ("config", "tokenizer", "facts"):
        if name not in metadata:
            raise CheckpointError(
                f"{source} is no export of minigpt: its metadata has no '{name}' (a Hugging Face folder is imported "
                "with --format hf)"
            )
    facts = _checked_facts(_json(metadata["facts"], source), source)
    try:
        config = GPTConfig.from_dict(_json(metadata["config"], source))
        own = tokenizer_from_json(metadata["tokenizer"], source)
        if "special_tokens" in metadata:  # older exports have none
            special = special_tokens_from_dict(_json(metadata["special_tokens"], source), config.vocab_size)
            own = with_special_tokens(own, special)
    except (ConfigError, DataError) as error:
        raise CheckpointError(f"{source}: {error}") from None
    found = own if tokenizer is None else named_tokenizer(tokenizer, config.vocab_size)
    check_vocabulary(found, config, source)
    check_weights(weights, source)
    weights = {name: value.float() for name, value in weights.items()}
    if config.tie_embeddings and EMBEDDING in weights:
        weights[HEAD] = weights[EMBEDDING]
    _check_shapes(weights, config, source)
    origin = {"source": source, "format": "safetensors", "exported_from": facts.pop("provenance")}
    return ForeignModel(config=config, weights=weights, tokenizer=found, origin=origin, **facts)


def _same(tokenizer: Tokenizer, other: Tokenizer) -> bool:
    return tokenizer.fingerprint == other.fingerprint and tokenizer.special == other.special


def _some(names: list[str]) -> str:
    """Join the first three names and the number of the others."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def _json(text: str, source: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{source}: its metadata are not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{source}: its metadata must be mappings, not a {type(value).__name__}")
    return value


def _checked_facts(facts: dict[str, Any], source: str) -> dict[str, Any]:
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{source} has format {shown(facts.get('format'))}, this minigpt reads format {FORMAT}")
    facts = {"texts": {}, **facts}  # an older version wrote none
    for name, types in _FACTS.items():
        if name not in facts or not isinstance(facts[name], types) or isinstance(facts[name], bool):
            raise CheckpointError(f"{source}: '{name}' in its metadata is missing or not what it should be")
    loss = facts["val_loss"]
    if loss is not None and not abs(loss) <= sys.float_info.max:
        raise CheckpointError(f"{source}: 'val_loss' in its metadata is no finite number")
    return {**{name: facts[name] for name in _FACTS}, "val_loss": None if loss is None else float(loss)}


def _check_shapes(weights: dict[str, torch.Tensor], config: GPTConfig, source: str) -> None:
    expected = expected_shapes(weights, config, source)
    for name in sorted(expected.keys() ^ weights.keys()):
        what = "lack" if name in expected else "have an unknown"
        raise CheckpointError(f"{source}: the weights {what} '{name}'")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            found = tuple(weights[name].shape)
            raise CheckpointError(f"{source}: weight '{name}' has shape {found}, the config asks for {tuple(shape)}")

"""Import a GPT-2 or Llama from a Hugging Face folder, and export a GPT of ours to one."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from minigpt.data.protocol import Tokenizer, with_special_tokens
from minigpt.errors import CheckpointError
from minigpt.interop.families import family_for, read_config, write_config
from minigpt.interop.family import Family
from minigpt.interop.folder import CONFIG, GENERATION, MARK, WEIGHTS
from minigpt.interop.foreign import ForeignModel, build, check_vocabulary, largest_difference, naming, random_logits
from minigpt.interop.hub import find_folder
from minigpt.interop.names import renamed, shapes_of, to_ours, to_theirs
from minigpt.interop.reference import compare_with_transformers, is_installed
from minigpt.interop.special_tokens import read_special_tokens
from minigpt.interop.tokenizer_files import find_foreign_tokenizer, named_tokenizer, write_tokenizer
from minigpt.interop.weight_files import read_json, read_weights, write_safetensors
from minigpt.model.config import GPTConfig
from minigpt.model.gpt import GPT
from minigpt.system.files import atomic_folder, atomic_write

_ROUNDING = 1e-5
"""As a share of the largest logit: what adding zero biases may change in the order of a sum."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The result of an export."""

    form: str
    """The family, for a sentence."""
    notes: list[str]
    difference: float
    """Largest difference of the logits on random tokens: the model against what was read back from the disk."""
    from_transformers: float | None
    """The same against `transformers`; None where it is not installed."""


def read_hf(source: str, tokenizer: str | None = None) -> tuple[ForeignModel, Path]:
    """Read the model of a folder or of a repository's name; gives the folder too. `tokenizer` replaces the one in it.

    Raises CheckpointError for what is missing, damaged, not expressible here or contradicts itself; DataError and
    ConfigError for a tokenizer that cannot be used.
    """
    folder = find_folder(source)
    path = folder / CONFIG
    fields = read_json(path)
    family, config, notes = read_config(fields, path)
    theirs, file = read_weights(folder)
    weights = to_ours(family.names, config, renamed(theirs, family.prefix, file), file)
    if tokenizer is None:
        found, more = find_foreign_tokenizer(folder, config.vocab_size)
        notes = [*notes, *more]
    else:
        found = named_tokenizer(tokenizer, config.vocab_size)
    check_vocabulary(found, config, source)
    special, more = read_special_tokens(folder, fields, config.vocab_size, found, own_tokenizer=tokenizer is None)
    found, notes = with_special_tokens(found, special), [*notes, *more]
    origin = {"source": source, "format": "hf", "model_type": family.model_type, "weights": file.name}
    foreign = ForeignModel(config=config, weights=weights, tokenizer=found, origin=origin, notes=notes)
    return foreign, folder


def export_hf(model: GPT, tokenizer: Tokenizer, out: Path) -> Exported:
    """Write the folder `out` for `transformers`; it is read again and compared before it gets its name.

    Raises ConfigError for a model that no family can express, CheckpointError where the comparison fails or the disk
    is full.
    """
    family = family_for(model.config)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(out) as folder, naming(out, folder):
        notes = _write(model, family, tokenizer, folder)
        difference = _compare(model, tokenizer, folder)
        from_transformers = compare_with_transformers(model, folder) if is_installed() else None
    return Exported(form=family.title, notes=notes, difference=difference, from_transformers=from_transformers)


def _write(model: GPT, family: Family, tokenizer: Tokenizer, folder: Path) -> list[str]:
    config, weights = model.config, dict(model.state_dict())
    notes = []
    if family.every_bias and not config.bias:
        config = replace(config, bias=True)
        lacking = shapes_of(config).items() - shapes_of(model.config).items()
        weights |= {name: torch.zeros(shape) for name, shape in lacking}
        notes.append(f"bias=false: a {family.title} has biases, and gets {len(lacking)} that are zero")
    files = tokenizer.special.files
    # Spelt out where there is none: GPT-2's own default lies outside a small vocabulary. It begins a text too.
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.end_of_text)
    fields = write_config(family, config, files.get(CONFIG, ends))
    atomic_write(folder / CONFIG, json.dumps(fields, indent=2) + "\n")
    write_safetensors(folder / WEIGHTS, to_theirs(family.names, config, weights), MARK)
    generation = files.get(GENERATION, {}) if files else ends
    if any(value is not None for value in generation.values()):
        atomic_write(folder / GENERATION, json.dumps(generation, indent=2) + "\n")
    return notes + write_tokenizer(tokenizer, folder, config.block_size)


def _compare(model: GPT, tokenizer: Tokenizer, folder: Path) -> float:
    """Read `folder` as an import does, and check that weights (to the bit) and tokenizer are the same."""
    foreign, _ = read_hf(str(folder))
    for name, value in model.state_dict().items():
        if not torch.equal(foreign.weights[name], value.float()):
            raise CheckpointError(f"{folder}: weight '{name}' is not what was written when it is read again")
    if foreign.tokenizer.fingerprint != tokenizer.fingerprint:
        raise CheckpointError(f"{folder}: the tokenizer is not what was written when it is read again")
    if foreign.tokenizer.special.meaning != tokenizer.special.meaning:
        raise CheckpointError(f"{folder}: the special tokens are not what was written when they are read again")
    # A choice of kernel is no part of the model, and rounds otherwise.
    same_kernel: GPTConfig = replace(foreign.config, attention=model.config.attention)
    reloaded = build(replace(foreign, config=same_kernel))
    difference, relative = largest_difference(random_logits(reloaded, model.config), random_logits(model, model.config))
    if relative > (0.0 if same_kernel.bias == model.config.bias else _ROUNDING):
        raise CheckpointError(f"{folder}: read again, its logits differ by {difference:.3g}")
    return difference

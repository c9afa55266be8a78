"""nanoGPT's checkpoints: the dict that its train.py saves, and the characters in the meta.pkl of its data.

Its model is GPT-2's with the exact gelu and, with bias=False, no biases (nanoGPT's model.py since June 2023; older ones
had the approximation by tanh).
"""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from minigpt.data.protocol import utf8
from minigpt.data.tokenizer_folder import gpt2_tokenizer
from minigpt.data.tokenizers import CharTokenizer, Tokenizer
from minigpt.errors import CheckpointError, ConfigError, DataError, shown
from minigpt.interop.foreign import ForeignModel, check_vocabulary
from minigpt.interop.names import NANOGPT_NAMES, renamed, to_ours
from minigpt.interop.plain_pickle import read_plain_pickle
from minigpt.interop.tokenizer_files import named_tokenizer, numbers
from minigpt.interop.weight_files import check_is_file, state_dict_of
from minigpt.model.config import GPTConfig
from minigpt.runs.archive import is_complete, load_safely
from minigpt.system.files import home_path

GPT2_VOCABULARY = 50257
_NOT_MEASURED = 1e9
"""nanoGPT's best_val_loss before its first evaluation."""
_MODEL_ARGS = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")


def read_nanogpt(source: str, tokenizer: str | None = None, meta: str | None = None) -> ForeignModel:
    """Read the model of a ckpt.pt, with the characters of `meta`, or of the meta.pkl that belongs to it.

    Raises CheckpointError for a file that is missing, damaged, or no checkpoint of nanoGPT; DataError and ConfigError
    for a tokenizer that cannot be used.
    """
    path = home_path(source)
    check_is_file(path, "nanogpt")
    content = load_safely(path, mmap=is_complete(path))
    for name in ("model", "model_args"):
        if not isinstance(content, dict) or not isinstance(content.get(name), dict):
            raise CheckpointError(f"{source} is not a checkpoint of nanoGPT: it has no '{name}'")
    config = _config(content["model_args"], source)
    weights = to_ours(NANOGPT_NAMES, config, renamed(state_dict_of(content["model"], source), "", source), source)
    settings = content.get("config") if isinstance(content.get("config"), dict) else {}
    found, notes = _tokenizer(path, config, settings, tokenizer, meta)
    check_vocabulary(found, config, source)
    dataset = settings.get("dataset")
    origin = {"source": source, "format": "nanogpt", **({"dataset": dataset} if isinstance(dataset, str) else {})}
    step = content.get("iter_num", 0)
    return ForeignModel(
        config=config,
        weights=weights,
        tokenizer=found,
        origin=origin,
        notes=notes,
        step=step if isinstance(step, int) and step >= 0 else 0,
        val_loss=_loss(content.get("best_val_loss")),
    )


def _config(model_args: dict[str, Any], source: str) -> GPTConfig:
    for name in _MODEL_ARGS:
        if name not in model_args:
            raise CheckpointError(f"{source} is not a checkpoint of nanoGPT: its model_args have no '{name}'")
    try:
        return GPTConfig(
            **{name: model_args[name] for name in _MODEL_ARGS},
            bias=model_args.get("bias", True),
            dropout=model_args.get("dropout", 0.0),
        )
    except ConfigError as error:
        raise CheckpointError(f"{source}: model_args: {error}") from None


def _loss(value: Any) -> float | None:
    """Read best_val_loss, a number or a tensor of one; None if nothing was measured yet."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and value < _NOT_MEASURED else None


def _tokenizer(
    path: Path, config: GPTConfig, settings: dict[str, Any], named: str | None, meta: str | None
) -> tuple[Tokenizer, list[str]]:
    """Choose the tokenizer: the named one, else characters, else GPT-2's, else numbers; and give notes."""
    if named is not None:
        return named_tokenizer(named, config.vocab_size), []
    file = home_path(meta) if meta is not None else _find_meta(path, settings)
    if file is not None:
        return characters_of(file), []
    if config.vocab_size < GPT2_VOCABULARY:
        return numbers(config.vocab_size, f"no meta.pkl with the characters was found for {path}: give it as --meta")
    try:
        return gpt2_tokenizer(), []
    except DataError as error:
        return numbers(config.vocab_size, str(error))


def _find_meta(path: Path, settings: dict[str, Any]) -> Path | None:
    """Find meta.pkl beside the checkpoint, or in nanoGPT's data/DATASET, here or beside the checkpoint's folder."""
    places = [path.parent]
    dataset = settings.get("dataset")
    if isinstance(dataset, str) and Path(dataset).name == dataset:
        places += [Path("data") / dataset, path.resolve().parent.parent / "data" / dataset]
    return next((place / "meta.pkl" for place in places if (place / "meta.pkl").is_file()), None)


def characters_of(path: Path) -> CharTokenizer:
    """Return the character tokenizer of a meta.pkl; DataError, one line, for anything else."""
    meta = read_plain_pickle(path)
    stoi, itos = (meta.get(name) for name in ("stoi", "itos")) if isinstance(meta, dict) else (None, None)
    if not isinstance(stoi, dict) or not isinstance(itos, dict) or not stoi:
        raise DataError(f"{path}: a meta.pkl of characters needs the mappings `stoi` and `itos`")
    for character, index in stoi.items():
        if not isinstance(character, str) or len(character) != 1 or type(index) is not int:
            raise DataError(f"{path}: {shown(character)}: {shown(index)} in its stoi is not a character and its id")
        utf8(character)
    if {index: character for character, index in stoi.items()} != itos:
        raise DataError(f"{path}: its itos is not the inverse of its stoi")
    for index, character in enumerate(sorted(stoi)):
        if stoi[character] != index:
            raise DataError(
                f"{path}: {character!r} has id {stoi[character]}, but ids must follow the order of the characters "
                f"from 0 on (here {index}), as nanoGPT makes them; --tokenizer ids goes without"
            )
    return CharTokenizer(stoi, end_of_text=False, unknown=False)

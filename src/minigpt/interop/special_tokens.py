"""Read the special tokens of a Hugging Face folder, whose files may disagree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.data.bpe import LibraryTokenizer
from minigpt.data.protocol import Tokenizer
from minigpt.data.special_tokens import SpecialTokens
from minigpt.data.tokenizer_folder import named_tokens, read_fields
from minigpt.errors import CheckpointError, shown
from minigpt.interop.folder import CONFIG, GENERATION, LIBRARY_SETTINGS, LIBRARY_TOKENIZER, TOKEN_NAMES
from minigpt.interop.weight_files import read_json

IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_CODE = ("auto_map",)
"""Names of classes in a repository, which an export does not have."""
_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "min_length": 0,
    "min_new_tokens": 0,
    "guidance_scale": 1.0,
}
"""Settings of generation_config.json that change a greedy text, and the value at which they do not; else null."""
_CHANGING = (*_NEUTRAL, "bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id",
             "forced_eos_token_id", "sequence_bias", "exponential_decay_length_penalty", "stop_strings")  # fmt: skip


def read_special_tokens(
    folder: Path, config: Mapping[str, Any], vocab_size: int, tokenizer: Tokenizer, *, own_tokenizer: bool
) -> tuple[SpecialTokens, list[str]]:
    """Return the special tokens of the model in `folder`, and notes: a line for each place where its files disagree.

    As in `transformers`, generation goes by generation_config.json where there is one, else by `config`, the fields of
    config.json; a prompt's template is that of tokenizer.json. `own_tokenizer`: `tokenizer` is
    the folder's. Raises CheckpointError, one line, for ids that are none.
    """
    files: dict[str, Any] = {CONFIG: {name: config[name] for name in IDS if name in config}}
    said = {CONFIG: {name: _ids(config.get(name), name, folder / CONFIG) for name in IDS}}
    deciding, notes = CONFIG, []
    if (folder / GENERATION).exists():
        generation = read_json(folder / GENERATION)
        if not isinstance(generation, dict):
            raise CheckpointError(f"{folder / GENERATION}: must be a mapping, not a {type(generation).__name__}")
        files[GENERATION], deciding = generation, GENERATION
        said[GENERATION] = {name: _ids(generation.get(name), name, folder / GENERATION) for name in IDS}
        for name in IDS:
            if said[CONFIG][name] and said[CONFIG][name] != said[GENERATION][name]:
                note = f"{name} is {shown(generation.get(name))} in {GENERATION}, {shown(config[name])} in {CONFIG}"
                notes.append(f"{note}: the former counts, as in transformers")
        notes += _not_applied(generation)
    ids = {name: _inside(each, name, vocab_size, notes) for name, each in said[deciding].items()}
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    if own_tokenizer and isinstance(tokenizer, LibraryTokenizer):
        settings = {name: value for name, value in read_fields(folder / LIBRARY_SETTINGS).items() if name not in _CODE}
        files[LIBRARY_SETTINGS] = settings
        if (folder / TOKEN_NAMES).exists():
            files[TOKEN_NAMES] = read_fields(folder / TOKEN_NAMES)
        names = named_tokens(folder)
        before, after = tokenizer.template()
        notes += _other_template(tokenizer, (before, after), folder, names)
        notes += _other_names(tokenizer, names, files, ids, deciding)
    special = SpecialTokens(
        bos=ids["bos_token_id"][0] if ids["bos_token_id"] else None,
        stop=ids["eos_token_id"],
        pad=ids["pad_token_id"][0] if ids["pad_token_id"] else None,
        before=before,
        after=after,
        files=files,
    )
    return special, notes


def _ids(value: Any, name: str, path: Path) -> tuple[int, ...]:
    """Return the ids of a field: one, a list of them, or null."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(each) is int for each in ids):
        raise CheckpointError(f"{path}: {name}={shown(value)} must be an id, a list of ids, or null")
    return tuple(dict.fromkeys(ids))


def _inside(ids: tuple[int, ...], name: str, vocab_size: int, notes: list[str]) -> tuple[int, ...]:
    """Return the ids that the model can generate; note the others."""
    outside = [each for each in ids if not 0 <= each < vocab_size]
    if outside:
        notes.append(f"{name}={shown(outside[0])} is outside the vocabulary of {vocab_size}: it never comes")
    return tuple(each for each in ids if each not in outside)


def _other_template(
    tokenizer: LibraryTokenizer, template: tuple[tuple[int, ...], ...], folder: Path, names: Mapping[str, str | None]
) -> list[str]:
    """Note each end at which tokenizer_config.json asks for another template than tokenizer.json has."""
    notes, settings = [], read_fields(folder / LIBRARY_SETTINGS)
    for end, ids in zip(("bos", "eos"), template, strict=True):
        asked, name = settings.get(f"add_{end}_token"), names.get(f"{end}_token")
        index = None if name is None else tokenizer.id_of(name)
        if isinstance(asked, bool) and index is not None and asked != (index in ids):
            note = (
                f"add_{end}_token={str(asked).lower()} in {LIBRARY_SETTINGS}, but {LIBRARY_TOKENIZER} has {_spelt(ids)}"
            )
            where = "before" if end == "bos" else "behind"
            notes.append(f"{note} {where} a prompt: the latter counts, as in transformers")
    return notes


def _other_names(
    tokenizer: LibraryTokenizer,
    names: Mapping[str, str | None],
    files: Mapping[str, Any],
    ids: Mapping[str, tuple[int, ...]],
    deciding: str,
) -> list[str]:
    """Note the names in the tokenizer's files that the model does not use."""
    notes, mapped = [], files.get(TOKEN_NAMES, {})
    for end in ("bos", "eos"):
        name, expected = names.get(f"{end}_token"), ids[f"{end}_token_id"]
        index = None if name is None else tokenizer.id_of(name)
        said = f"{end}_token" in files[LIBRARY_SETTINGS] or f"{end}_token" in mapped
        if said and index is not None and index not in expected:
            note = (
                f"the tokenizer's {end}_token is {name!r} ({index}), {deciding} has {end}_token_id={_spelt(expected)}"
            )
            notes.append(f"{note}: a generated text goes by the latter, as in transformers")
        value = mapped.get(f"{end}_token")
        text = value.get("content") if isinstance(value, dict) else value
        if text is not None and text != name:
            note = f"{end}_token is {name!r} in {LIBRARY_SETTINGS}, {shown(text)} in {TOKEN_NAMES}"
            notes.append(f"{note}: the former counts, as in transformers")
    return notes


def _not_applied(generation: Mapping[str, Any]) -> list[str]:
    """Note the settings that would change even greedy text and that `minigpt generate` does not have."""
    changed = [
        f"{name}={shown(generation[name])}"
        for name in _CHANGING
        if generation.get(name) not in (None, [], _NEUTRAL.get(name))
    ]
    return [f"{GENERATION}: {', '.join(changed)} is kept for an export, minigpt generates without"] if changed else []


def _spelt(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids)) or "none"

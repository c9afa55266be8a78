"""The tokenizer in a Hugging Face folder, and the special tokens that the files beside it name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.data.bpe import LibraryTokenizer, byte_level, open_library
from minigpt.data.protocol import END_OF_TEXT
from minigpt.errors import DataError, shown

SETTINGS = "tokenizer_config.json"
NAMES = "special_tokens_map.json"
ADDED = "added_tokens.json"
_GPT2_REPOSITORIES = ("openai-community/gpt2", "gpt2")
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_OF_CLASS = {
    "GPT2Tokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
    "LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
}
"""Names that a class of `transformers` gives where the files leave them out."""


def gpt2_tokenizer() -> LibraryTokenizer:
    """GPT-2's tokenizer from the Hugging Face cache of this machine; the network is never asked."""
    from huggingface_hub import try_to_load_from_cache

    for repository in _GPT2_REPOSITORIES:
        for name in ("tokenizer.json", "vocab.json"):
            found = try_to_load_from_cache(repository, name)
            if isinstance(found, str) and (name == "tokenizer.json" or (Path(found).parent / "merges.txt").exists()):
                return tokenizer_from_folder(Path(found).parent)
    raise DataError(
        "tokenizer=gpt2 is not in this machine's Hugging Face cache: fetch it with `hf download openai-community/gpt2 "
        "vocab.json merges.txt`, or give a folder that holds vocab.json and merges.txt as the tokenizer"
    )


def tokenizer_from_folder(folder: Path) -> LibraryTokenizer:
    """The tokenizer in `folder`: tokenizer.json, or GPT-2's pair vocab.json + merges.txt (encoder.json + vocab.bpe).

    Which tokens are special, and which one closes a document, is what tokenizer_config.json and special_tokens_map.json
    say; where they say nothing, the published names of such tokens.
    """
    path = _tokenizer_file(folder)
    names = named_tokens(folder)
    try:
        library = _library(folder, path)
        _make_special(library, names.values())
        end = names.get("eos_token")
        if "eos_token" not in names or (end is not None and library.token_to_id(end) is None):
            return LibraryTokenizer(library.to_str(), str(path))
        return LibraryTokenizer(library.to_str(), str(path), None if end is None else library.token_to_id(end))
    except DataError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{path}: cannot be read as a tokenizer: {error}") from None


def named_tokens(folder: Path) -> dict[str, str | None]:
    """The special tokens by the names of `transformers` (bos_token, ...), as it reads them from the files of a folder.

    tokenizer_config.json says it; special_tokens_map.json goes before it where that lists no added_tokens_decoder; what
    neither says is the default of the tokenizer's class. DataError for a name that is no text.
    """
    settings, names = read_fields(folder / SETTINGS), read_fields(folder / NAMES)
    if "added_tokens_decoder" in settings:
        names = {}
    found: dict[str, str | None] = {**_OF_CLASS.get(tokenizer_class(folder, settings), {})}
    for source, fields in ((SETTINGS, settings), (NAMES, names)):
        for name in _NAMED:
            if name in fields:
                value = fields[name]
                text = value.get("content") if isinstance(value, dict) else value
                if text is not None and not isinstance(text, str):
                    raise DataError(f"{folder / source}: {name}={shown(value)} must be the text of a token, or null")
                found[name] = text
    return found


def tokenizer_class(folder: Path, settings: Mapping[str, Any]) -> str:
    """The class of `transformers` that would read the folder, as far as its defaults matter; empty: another."""
    config = read_fields(folder / "config.json")
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if not isinstance(named, str):
        return "GPT2Tokenizer" if config.get("model_type") == "gpt2" else ""
    return named.removesuffix("Fast")


def read_fields(path: Path) -> dict[str, Any]:
    """A JSON file of a mapping, empty where there is no file. DataError, one line, for a damaged one."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise DataError(f"{path}: must be a mapping, not a {type(fields).__name__}")
    return fields


def _tokenizer_file(folder: Path) -> Path:
    """The file that the tokenizer is read from; DataError where there is none, with what to do about it."""
    if (folder / "tokenizer.json").exists():
        return folder / "tokenizer.json"
    for vocabulary, merges in (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")):
        if (folder / vocabulary).exists() and (folder / merges).exists():
            return folder / vocabulary
    if (folder / "tokenizer.model").exists():
        raise DataError(
            f"{folder}: tokenizer.model alone cannot be read, minigpt reads a tokenizer.json: transformers makes one, "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    raise DataError(f"{folder}: no tokenizer there: neither tokenizer.json nor vocab.json with merges.txt")


def _library(folder: Path, path: Path) -> Any:
    from tokenizers import models

    if path.name == "tokenizer.json":
        return open_library(path.read_text(encoding="utf-8"), str(path))
    merges = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}[path.name]
    library = byte_level(models.BPE.from_file(str(path), str(folder / merges)))
    if not (folder / SETTINGS).exists():
        library.add_special_tokens([END_OF_TEXT])
    _add_tokens(library, folder)
    _add_template(library, folder)
    return library


def _add_template(library: Any, folder: Path) -> None:
    """What tokenizer_config.json puts around a text; a tokenizer.json has its own, and goes before it."""
    from tokenizers import processors

    settings, names = read_fields(folder / SETTINGS), named_tokens(folder)
    bos, eos = (names.get(f"{end}_token") if settings.get(f"add_{end}_token") else None for end in ("bos", "eos"))
    used = [(name, library.token_to_id(name)) for name in dict.fromkeys((bos, eos)) if name is not None]
    if used and all(index is not None for _, index in used):
        template = " ".join(part for part in (bos, "$A", eos) if part is not None)
        library.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)


def _add_tokens(library: Any, folder: Path) -> None:
    """The tokens behind those of vocab.json; DataError where they cannot get the ids that the files give them."""
    from tokenizers import AddedToken

    listed = read_fields(folder / SETTINGS).get("added_tokens_decoder")
    if isinstance(listed, dict):
        tokens = {int(index): AddedToken(**token) for index, token in listed.items()}
    else:
        tokens = {index: AddedToken(name, normalized=True) for name, index in read_fields(folder / ADDED).items()}
    for index in sorted(tokens):
        library.add_tokens([tokens[index]])
        found = library.token_to_id(tokens[index].content)
        if found != index:
            raise DataError(f"{folder}: token {tokens[index].content!r} has id {index} in its files, and gets {found}")


def _make_special(library: Any, names: Any) -> None:
    """Make each named token of the vocabulary a special one, as `transformers` does."""
    from tokenizers import AddedToken

    special = {token.content for token in library.get_added_tokens_decoder().values() if token.special}
    for name in names:
        if name is not None and name not in special and library.token_to_id(name) is not None:
            library.add_special_tokens([AddedToken(name, special=True, normalized=False)])

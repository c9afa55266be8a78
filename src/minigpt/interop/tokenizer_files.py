"""Write our tokenizers as files for `transformers`, and find the tokenizer of a foreign model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigpt.data.bpe import BYTE_OF_LETTER, LibraryTokenizer
from minigpt.data.number_tokenizer import NumberTokenizer
from minigpt.data.protocol import END_OF_TEXT
from minigpt.data.tokenizer_folder import tokenizer_from_folder
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer, find_tokenizer, load_tokenizer
from minigpt.errors import ConfigError, DataError
from minigpt.interop.folder import LIBRARY_SETTINGS, LIBRARY_TOKENIZER, TOKEN_NAMES, TOKENIZER
from minigpt.system.files import atomic_write


def write_tokenizer(tokenizer: Tokenizer, folder: Path, block_size: int) -> list[str]:
    """Write tokenizer.json and tokenizer_config.json, and ours beside them; gives notes for the user."""
    atomic_write(folder / TOKENIZER, tokenizer.to_json())
    if tokenizer.kind not in _LIBRARY_JSON:
        message = f"the tokenizer ({tokenizer.kind}) has no form that transformers could open"
        return [f"{message}: only {TOKENIZER} is written"]
    text = _LIBRARY_JSON[tokenizer.kind](tokenizer)
    atomic_write(folder / LIBRARY_TOKENIZER, text)
    files = tokenizer.special.files
    if LIBRARY_SETTINGS in files:  # from elsewhere: as it came
        for name in (LIBRARY_SETTINGS, TOKEN_NAMES):
            if files.get(name):
                atomic_write(folder / name, json.dumps(files[name], indent=2) + "\n")
        return []
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": block_size,
        "clean_up_tokenization_spaces": False,  # decoding must give back what was encoded
        "model_input_names": ["input_ids", "attention_mask"],  # GPT-2 would add an embedding for token_type_ids
    }
    if tokenizer.end_of_text is not None:
        from tokenizers import Tokenizer as Library

        end = Library.from_str(text).id_to_token(tokenizer.end_of_text)
        settings |= {"bos_token": end, "eos_token": end}
    atomic_write(folder / LIBRARY_SETTINGS, json.dumps(settings, indent=2) + "\n")
    return []


def find_foreign_tokenizer(folder: Path, vocab_size: int) -> tuple[Tokenizer, list[str]]:
    """Return the tokenizer of a Hugging Face folder, and notes: ours if it is there, else theirs, else numbers."""
    notes = []
    if (folder / TOKENIZER).exists():
        ours, theirs = load_tokenizer(folder / TOKENIZER), _library_size(folder / LIBRARY_TOKENIZER)
        if theirs in (None, ours.vocab_size):
            return ours, []
        message = f"{TOKENIZER} has {ours.vocab_size} tokens, {LIBRARY_TOKENIZER} beside it {theirs}"
        notes = [f"{message}: the latter is taken"]
    try:
        return tokenizer_from_folder(folder), notes
    except DataError as error:
        return numbers(vocab_size, str(error))


def numbers(vocab_size: int, reason: str) -> tuple[Tokenizer, list[str]]:
    """Return the tokenizer that replaces one that was not found, and a note."""
    note = f"{reason}; texts are ids (17 4 ...) until --tokenizer byte, gpt2, a file or a folder names the right one"
    return NumberTokenizer(vocab_size), [note]


def named_tokenizer(name: str, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of --tokenizer: byte, gpt2, a file, a folder, or ids. ConfigError for one to be trained."""
    if name in {"char", "bpe"}:
        raise ConfigError(f"tokenizer={name} is made from a corpus: an import needs the file of the one it was made by")
    return NumberTokenizer(vocab_size) if name == "ids" else find_tokenizer(name)


def _library_size(path: Path) -> int | None:
    """Return the number of tokens of a tokenizer.json; None if the library cannot open it."""
    from tokenizers import Tokenizer as Library

    try:
        return int(Library.from_file(str(path)).get_vocab_size(with_added_tokens=True))
    except Exception:  # the library raises bare Exception
        return None


def _byte_json() -> str:
    """Byte-level BPE without a merge: each byte keeps its own number, and the end of text is 256."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    library = Library(models.BPE(vocab=BYTE_OF_LETTER, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([END_OF_TEXT])
    return str(library.to_str())


def _char_json(tokenizer: Tokenizer) -> str:
    """Words of one character each, with our ids; one outside the vocabulary is an error where ours raises one."""
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Library

    assert isinstance(tokenizer, CharTokenizer)
    vocabulary = {character: index for index, character in enumerate(tokenizer.characters)}
    if tokenizer.end_of_text is not None:
        vocabulary[END_OF_TEXT] = tokenizer.end_of_text
    # Written as ours writes it. Where a text has that very character, it needs a name that no character has.
    unknown = "\ufffd" if "\ufffd" not in vocabulary else "<unk>"
    if tokenizer.unknown is not None:
        vocabulary[unknown] = tokenizer.unknown
    library = Library(models.WordLevel(vocab=vocabulary, unk_token=unknown))
    library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    library.decoder = decoders.Fuse()
    if tokenizer.end_of_text is not None:
        library.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return str(library.to_str())


def _library_json(tokenizer: Tokenizer) -> str:
    assert isinstance(tokenizer, LibraryTokenizer)
    return tokenizer.library_json


_LIBRARY_JSON: dict[str, Callable[[Tokenizer], str]] = {
    ByteTokenizer.kind: lambda _: _byte_json(),
    CharTokenizer.kind: _char_json,
    "bpe": _library_json,
}
"""Kind of tokenizer -> a file of the `tokenizers` library that encodes and decodes alike, with the same ids."""

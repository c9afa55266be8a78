"""The tokenizers that need no library, bytes and characters, and which tokenizer a name or a file means."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.data.bpe import WRAPPED, LibraryTokenizer, train_bpe, unwrapped
from minigpt.data.number_tokenizer import NumberTokenizer
from minigpt.data.protocol import Tokenizer, check_ids, fingerprint_of, utf8
from minigpt.data.special_tokens import ending_with
from minigpt.data.tokenizer_folder import gpt2_tokenizer, tokenizer_from_folder
from minigpt.errors import ConfigError, DataError, did_you_mean
from minigpt.system.files import home_path

__all__ = [
    "ByteTokenizer",
    "CharTokenizer",
    "Tokenizer",
    "find_tokenizer",
    "load_tokenizer",
    "tokenizer_from_json",
    "train_tokenizer",
]

UNKNOWN = "<unk>"
TOKENIZER_NAMES = ("byte", "char", "bpe", "gpt2")
_MOST_NUMBERS = 1 << 31


class ByteTokenizer:
    """The 256 bytes of UTF-8, and one more id for the end of a document."""

    kind = "byte"
    vocab_size = 257
    end_of_text: int | None = 256
    prefix = b""
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.special = ending_with(self.end_of_text)
        self.fingerprint = fingerprint_of(self.to_json())

    def encode(self, text: str) -> list[int]:
        return list(utf8(text))

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(utf8(text), dtype=np.uint8) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        checked = check_ids(ids, self.vocab_size)
        return bytes(checked[checked != self.end_of_text].astype(np.uint8))

    def token_bytes(self) -> np.ndarray:
        return np.array([1] * 256 + [0], dtype=np.int64)

    def to_json(self) -> str:
        return json.dumps({"minigpt_tokenizer": "byte"})


class CharTokenizer:
    """One id for each character of a corpus, in the order of their code points.

    `<|endoftext|>` follows them when the corpus has several documents, and `<unk>` when asked for. Without `<unk>`, a
    character outside the vocabulary is an error. `<unk>` is written as U+FFFD and, as a special token, counts no bytes.
    """

    kind = "char"
    prefix = b""
    notes: tuple[str, ...] = ()

    def __init__(self, characters: Iterable[str], *, end_of_text: bool, unknown: bool) -> None:
        self.characters = sorted(set(characters))
        self.end_of_text: int | None = len(self.characters) if end_of_text else None
        self.special = ending_with(self.end_of_text)
        self.unknown: int | None = len(self.characters) + end_of_text if unknown else None
        self.vocab_size = len(self.characters) + end_of_text + unknown
        self._table: np.ndarray | None = None
        self._code_points = np.array([*map(ord, self.characters), *[0] * end_of_text, *[0xFFFD] * unknown], np.uint32)
        self.fingerprint = fingerprint_of(self.to_json())

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.encode_batch([text])[0].tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> np.ndarray:
        # Lone surrogates are let through here, so that they are reported as what they are: characters not known.
        code_points = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
        ids = self._id_of_code_point()[code_points]
        if self.unknown is None and ids.size and ids.min() < 0:
            strange = sorted({chr(point) for point in np.unique(code_points[ids < 0])})
            shown = ", ".join(repr(character) for character in strange[:5])
            more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            raise DataError(
                f"the text holds {int((ids < 0).sum())} character(s) outside the vocabulary of "
                f"{len(self.characters)}: {shown}{more}; a tokenizer made with `unknown` would take them as {UNKNOWN}"
            )
        return ids

    def _id_of_code_point(self) -> np.ndarray:
        """(0x110000,) made at the first use: the id of every code point, -1 (or that of `<unk>`) for the others."""
        if self._table is None:
            dtype = np.int16 if self.vocab_size <= 1 << 15 else np.int32
            table = np.full(0x110000, -1 if self.unknown is None else self.unknown, dtype=dtype)
            table[[ord(character) for character in self.characters]] = np.arange(len(self.characters))
            self._table = table
        return self._table

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        checked = check_ids(ids, self.vocab_size)
        if self.end_of_text is not None:
            checked = checked[checked != self.end_of_text]
        return self._code_points[checked].tobytes().decode("utf-32-le").encode("utf-8")

    def token_bytes(self) -> np.ndarray:
        special = self.vocab_size - len(self.characters)
        return np.array([len(character.encode("utf-8")) for character in self.characters] + [0] * special, np.int64)

    def to_json(self) -> str:
        fields = {
            "minigpt_tokenizer": "char",
            "characters": "".join(self.characters),
            "end_of_text": self.end_of_text is not None,
            "unknown": self.unknown is not None,
        }
        return json.dumps(fields)


def tokenizer_from_json(text: str, source: str = "tokenizer") -> Tokenizer:
    """The tokenizer whose `to_json()` gave `text`, or that of a `tokenizer.json`. `source` names it in errors."""
    try:
        fields: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not a tokenizer file: not JSON ({error})") from None
    kind = fields.get("minigpt_tokenizer") if isinstance(fields, dict) else None
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        return _char_from_fields(fields, source)
    if kind == "ids":
        return _numbers_from_fields(fields, source)
    if kind == WRAPPED:
        return unwrapped(fields, source)
    if isinstance(fields, dict) and "model" in fields:
        return LibraryTokenizer(text, source)
    raise DataError(f"{source}: not a tokenizer file: neither `minigpt_tokenizer` nor a tokenizer.json's `model` in it")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read one tokenizer file: ours, or any `tokenizer.json` whose tokens stand for bytes."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such tokenizer file{did_you_mean(path.name, names)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a tokenizer file: {error}") from None
    return tokenizer_from_json(text, str(path))


def find_tokenizer(name: str) -> Tokenizer:
    """A tokenizer that exists already: `byte`, `gpt2`, a tokenizer file, or a folder with one. DataError if none."""
    if name == "byte":
        return ByteTokenizer()
    if name == "gpt2":
        return gpt2_tokenizer()
    path = home_path(name)
    if path.is_dir():
        return tokenizer_from_folder(path)
    if not path.exists() and path.name == name and not path.suffix:
        choices = ", ".join(TOKENIZER_NAMES)
        near = did_you_mean(name, TOKENIZER_NAMES)
        raise DataError(f"tokenizer={name!r} is neither one of {choices} nor a tokenizer file{near}")
    return load_tokenizer(path)


def train_tokenizer(name: str, documents: Iterable[str], vocab_size: int, unknown: bool) -> Tokenizer:
    """Make a tokenizer from documents: `byte` (nothing to learn), `char` or `bpe`. `vocab_size` is for bpe alone."""
    if name == "byte":
        return ByteTokenizer()
    if name == "char":
        characters: set[str] = set()
        count = 0
        for document in documents:
            characters.update(document)
            count += 1
        return CharTokenizer(characters, end_of_text=count > 1, unknown=unknown)
    if name == "bpe":
        return train_bpe(documents, vocab_size)
    raise ConfigError(f"tokenizer={name!r} cannot be trained: byte, char and bpe can")


def _numbers_from_fields(fields: dict[str, Any], source: str) -> NumberTokenizer:
    vocab_size = fields.get("vocab_size")
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or not 1 <= vocab_size <= _MOST_NUMBERS:
        raise DataError(f"{source}: vocab_size={vocab_size!r} must be a whole number from 1 to {_MOST_NUMBERS}")
    return NumberTokenizer(vocab_size)


def _char_from_fields(fields: dict[str, Any], source: str) -> CharTokenizer:
    characters, end_of_text, unknown = fields.get("characters"), fields.get("end_of_text"), fields.get("unknown")
    if not (isinstance(characters, str) and isinstance(end_of_text, bool) and isinstance(unknown, bool)):
        raise DataError(f"{source}: a char tokenizer needs `characters` (text), `end_of_text` and `unknown` (booleans)")
    utf8(characters)
    return CharTokenizer(characters, end_of_text=end_of_text, unknown=unknown)

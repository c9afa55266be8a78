"""Byte-level BPE: trained and run by the `tokenizers` library, or read from a tokenizer.json."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minigpt.data.options import LEAST_BPE_VOCABULARY
from minigpt.data.protocol import END_OF_TEXT, check_ids, fingerprint_of, utf8
from minigpt.data.special_tokens import ending_with
from minigpt.data.words import WordEncoder
from minigpt.errors import ConfigError, DataError

# The names under which published vocabularies keep the token that closes a document.
_END_NAMES = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]")
_GUESSED = -1
"""In place of an end of text: the first of _END_NAMES that the vocabulary has."""
WRAPPED = "library"
"""The kind in a file of ours around a tokenizer.json: with an end of text that the latter does not say."""
_BATCH_CHARACTERS = 1 << 18
"""Texts go to the library in batches of about this size: its Encoding objects weigh some 100 bytes a token."""
_MOST_IDS = 1 << 24
"""Sixty times the largest vocabulary of the great models. Every id up to the highest has its place in a list."""


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library whose tokens stand for fixed bytes: byte-level, or SentencePiece's kind.

    Ordinary text never turns into special tokens, nothing is truncated or padded, and added at its ends is nothing but
    the `prefix`. Merges are never left out at random. Whether the text comes back is tried where it is prepared.
    """

    kind = "bpe"

    def __init__(self, text: str, source: str = "tokenizer", end_of_text: int | None = _GUESSED) -> None:
        """Open the text of a tokenizer.json; `end_of_text` where other files say which id closes a document."""
        text, dropout = _without_dropout(text)
        self.notes = (f"{source}: its BPE leaves out merges at random (dropout {dropout:g}): switched off",) * (
            dropout > 0
        )
        self._library = _plainly(open_library(text, source))
        self.library_json = self._library.to_str()
        """A tokenizer.json that the library opens."""
        fields = json.loads(self.library_json)
        self._bytes = _bytes_of_tokens(self._library, fields, source)
        self.vocab_size = len(self._bytes)
        ends = (self._library.token_to_id(name) for name in _END_NAMES)
        guessed = next((end for end in ends if end is not None), None)
        self.end_of_text: int | None = guessed if end_of_text == _GUESSED else end_of_text
        if self.end_of_text is not None and self.end_of_text >= self.vocab_size:
            raise DataError(f"{source}: end_of_text={end_of_text} is outside the vocabulary of {self.vocab_size}")
        self.special = ending_with(self.end_of_text)
        self._json = self.library_json if self.end_of_text == guessed else self._wrapped(fields)
        self.fingerprint = fingerprint_of(self._json)
        others, self.prefix = _without_prefix(fields, source)
        same = others == fields
        self._continuing = self._library if same else _plainly(open_library(json.dumps(others), source))
        self._words = WordEncoder(self._encode_in_library) if _splits_as_gpt2(self._library, fields) else None

    def encode(self, text: str) -> list[int]:
        utf8(text)
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """As `encode`. Where words are split as GPT-2 does it, each distinct one is handed to the library once."""
        for text in texts:
            utf8(text)
        if self._words is not None:
            return self._words.encode_batch(texts)
        return [np.array(ids, dtype=np.uint32) for batch in _batches(texts) for ids in self._encode_in_library(batch)]

    def encode_continuing(self, text: str) -> np.ndarray:
        """The ids of a stretch from the midst of a document: nothing is put in front of it."""
        utf8(text)
        return np.array(self._continuing.encode(text, add_special_tokens=False).ids, dtype=np.uint32)

    def _encode_in_library(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._library.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self._bytes.__getitem__, check_ids(ids, self.vocab_size).tolist()))

    def token_bytes(self) -> np.ndarray:
        return np.array([len(spelt) for spelt in self._bytes], dtype=np.int64)

    def to_json(self) -> str:
        return self._json

    def _wrapped(self, fields: dict[str, Any]) -> str:
        return json.dumps({"minigpt_tokenizer": WRAPPED, "end_of_text": self.end_of_text, "library": fields})

    def id_of(self, token: str) -> int | None:
        """The id of a token by its name in the file, special ones too; none where the vocabulary lacks it."""
        found: int | None = self._library.token_to_id(token)
        return found

    def template(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the file's post_processor puts in front of a text and behind it."""
        for sample in ("a", "e", " ", "0", *self._library.get_vocab(with_added_tokens=False)):
            plain = self.encode(sample)
            if plain:
                ids = self._library.encode(sample, add_special_tokens=True).ids
                places = range(len(ids) - len(plain) + 1)
                start = next((place for place in places if ids[place : place + len(plain)] == plain), None)
                if start is not None:
                    return tuple(ids[:start]), tuple(ids[start + len(plain) :])
        return (), ()


def train_bpe(documents: Iterable[str], vocab_size: int) -> LibraryTokenizer:
    """Byte-level BPE (Sennrich et al. 2016; on bytes: Radford et al. 2019, 2.2) with GPT-2's way of splitting words.

    256 bytes and `<|endoftext|>` come first, then the merges. A small text may have fewer pairs to merge than
    `vocab_size` asks for; the vocabulary is then smaller.
    """
    if vocab_size < LEAST_BPE_VOCABULARY:
        raise ConfigError(f"vocab_size={vocab_size} must be at least {LEAST_BPE_VOCABULARY} for bpe")
    from tokenizers import pre_tokenizers, trainers

    library = byte_level(None)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(documents, trainer)
    return LibraryTokenizer(library.to_str(), "the trained tokenizer")


def open_library(text: str, source: str) -> Any:
    """The library's tokenizer of the text of a tokenizer.json; DataError, one line, where it cannot be opened."""
    from tokenizers import Tokenizer as Library

    try:
        return Library.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{source}: not a tokenizer.json that the tokenizers library can open: {error}") from None


def unwrapped(fields: dict[str, Any], source: str) -> LibraryTokenizer:
    """The tokenizer of a file of the kind WRAPPED; DataError where its parts are not what they should be."""
    library, end_of_text = fields.get("library"), fields.get("end_of_text")
    is_id = type(end_of_text) is int and end_of_text >= 0
    if not isinstance(library, dict) or not (end_of_text is None or is_id):
        raise DataError(f"{source}: needs a tokenizer.json as `library`, and `end_of_text`, an id or null")
    return LibraryTokenizer(json.dumps(library), source, end_of_text)


def byte_level(model: Any) -> Any:
    """A tokenizer of the library that splits words as GPT-2 does, around `model`, or around an empty one."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    library = Library(model if model is not None else models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return library


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Groups of texts of a bounded size, in order; a longer text is one."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _splits_as_gpt2(library: Any, fields: dict[str, Any]) -> bool:
    """Whether texts are split into words by GPT-2's pattern and by nothing else."""
    splitter = fields.get("pre_tokenizer") or {}
    if splitter.get("type") != "ByteLevel" or not splitter.get("use_regex", True) or splitter["add_prefix_space"]:
        return False
    return fields.get("normalizer") is None and all(
        token.special for token in library.get_added_tokens_decoder().values()
    )


def _bytes_of_tokens(library: Any, fields: dict[str, Any], source: str) -> list[bytes]:
    """The bytes of each id; ids that the vocabulary leaves out, and special tokens, stand for nothing."""
    spell = _speller(fields, source)
    vocabulary: dict[str, int] = library.get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise DataError(f"{source}: the tokenizer's vocabulary is empty")
    if max(vocabulary.values()) >= _MOST_IDS:
        raise DataError(f"{source}: its ids go up to {max(vocabulary.values())}, and {_MOST_IDS - 1} is the most")
    spelt = [b""] * (max(vocabulary.values()) + 1)
    added = library.get_added_tokens_decoder()
    for token, index in vocabulary.items():
        if index in added:
            spelt[index] = b"" if added[index].special else token.encode("utf-8")
        else:
            spelt[index] = spell(token)
    return spelt


def _speller(fields: dict[str, Any], source: str) -> Any:
    """The function from a token's name to its bytes, by the kind of decoder in the file."""
    decoder = fields.get("decoder") or {}
    kinds = [decoder.get("type"), *(step.get("type") for step in decoder.get("decoders", []))]
    if "ByteLevel" in kinds:
        return _spell_byte_level
    if "Metaspace" in kinds or "ByteFallback" in kinds:
        return _spell_sentencepiece
    raise DataError(
        f"{source}: each token must stand for fixed bytes, as with the decoders ByteLevel, Metaspace and ByteFallback; "
        f"this tokenizer's decoder is {decoder.get('type', 'missing')}"
    )


def _plainly(library: Any) -> Any:
    """`library`, set to turn text into tokens and to do no more."""
    library.encode_special_tokens = True
    library.no_truncation()
    library.no_padding()
    return library


def _without_dropout(text: str) -> tuple[str, float]:
    """The file without its BPE's dropout (Provilkov et al. 2020), and how large that was: a text has its tokens."""
    try:
        fields: Any = json.loads(text)
        dropout = float(fields["model"].get("dropout") or 0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return text, 0.0  # whatever it is, the library will say so
    if dropout:
        fields["model"]["dropout"] = None
    return (json.dumps(fields) if dropout else text), dropout


def _without_prefix(fields: dict[str, Any], source: str) -> tuple[dict[str, Any], bytes]:
    """The file of a tokenizer that puts nothing in front of a text, and what this one does put there."""
    prefixes: list[bytes] = []

    def changed(step: Any) -> Any:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "Sequence":
            name = "normalizers" if "normalizers" in step else "pretokenizers"
            return {**step, name: [inner for each in step[name] if (inner := changed(each)) is not None]}
        if kind == "Prepend":
            prefixes.append(_speller(fields, source)(step["prepend"]))
            return None
        if kind == "Metaspace" and step.get("prepend_scheme", "always") != "never":
            prefixes.append(b" ")
            return {**step, "prepend_scheme": "never"}
        if kind == "ByteLevel" and step.get("add_prefix_space"):
            prefixes.append(b" ")
            return {**step, "add_prefix_space": False}
        return step

    without = fields | {name: changed(fields.get(name)) for name in ("normalizer", "pre_tokenizer")}
    return without, prefixes[0] if prefixes else b""


def _byte_of_letter() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes are themselves, the 68 others the letters from U+0100 on, in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTE_OF_LETTER = _byte_of_letter()
"""Letter of byte-level BPE -> its byte."""


def _spell_byte_level(token: str) -> bytes:
    return b"".join(
        bytes([BYTE_OF_LETTER[letter]]) if letter in BYTE_OF_LETTER else letter.encode("utf-8") for letter in token
    )


def _spell_sentencepiece(token: str) -> bytes:
    """SentencePiece writes a space as U+2581, and a byte without a token of its own as <0xNN>."""
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode("utf-8")

"""A prepared folder: the tokenizer, the shards of both splits, and the index, which is written last."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import numpy as np

from minigpt.data.cache import recall, remember
from minigpt.data.encoding import EncodedCorpus
from minigpt.data.identity import DataIdentity
from minigpt.data.options import PrepareOptions
from minigpt.data.round_trip import ByteCorrection, Loss
from minigpt.data.shards import largest_token, open_document_starts, open_shard, pack, read_header, unpack
from minigpt.data.splitting import SIDES, Side, held_out
from minigpt.data.tokenizers import Tokenizer, load_tokenizer
from minigpt.errors import DataError
from minigpt.system.files import atomic_write
from minigpt.system.marks import has_mark

INDEX_NAME = "index.json"
FORMAT = "minigpt prepared text 1"
_BEGINNING = b'"format": "minigpt prepared text '
"""At the beginning of every index, whatever its version."""


@dataclass(frozen=True)
class TokenSplit:
    """The tokens of one split."""

    shards: list[np.ndarray]
    """Each (n,) uint8, uint16 or uint32, memory-mapped and read-only. No window crosses from one to the next."""
    document_starts: list[np.ndarray]
    """For each shard (k,) uint64, ascending: where in it a document begins. A later shard may begin inside one."""
    n_tokens: int
    n_documents: int
    n_bytes: int
    """UTF-8 bytes of the text behind the tokens."""
    counted_bytes: int | None = None
    """Bytes that its tokens are taken for before any correction; None: `n_bytes`."""
    text_hash: str = ""
    """sha256 (hex) of that text with its documents' ends, whatever the tokenizer; empty: an older version made it."""

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process: the shards by their files, not their tokens."""
        return {**self.__dict__, **{name: pack(getattr(self, name)) for name in ("shards", "document_starts")}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        mapped = {name: unpack(state[name]) for name in ("shards", "document_starts")}
        self.__dict__.update(state, **mapped)


@dataclass(frozen=True)
class Prepared:
    """A corpus ready for training."""

    folder: Path
    tokenizer: Tokenizer
    train: TokenSplit
    val: TokenSplit
    fingerprint: str
    """sha256 (hex) of the tokenizer and the tokens of both splits, wherever the folder lies and however it was made."""
    meta: dict[str, Any]
    """How it was made: the options, and `split_by`: what split=auto came to mean, documents, position or within."""
    loss: Loss | None = None
    """What of the text the tokenizer does not give back; None: an older version made it, and did not try."""
    notes: tuple[str, ...] = ()
    """Notes on the tokenizer, a sentence each."""

    def correction(self, *sides: Side) -> ByteCorrection | None:
        """What the tokens' bytes must be corrected by on one side or both; None: by nothing."""
        splits: list[TokenSplit] = [getattr(self, side) for side in sides]
        counted = sum(split.counted_bytes or split.n_bytes for split in splits)
        scale = sum(split.n_bytes for split in splits) / counted if counted else 1.0
        prefix, vocab_size = self.tokenizer.prefix, self.tokenizer.vocab_size
        if scale == 1 and not prefix:
            return None
        put_back = np.zeros(vocab_size, dtype=np.int64)
        if prefix:
            starts = [self.tokenizer.decode_bytes([token]).startswith(prefix) for token in range(vocab_size)]
            put_back[starts] = len(prefix)
        return ByteCorrection(end_of_text=self.tokenizer.end_of_text, prefix_bytes=put_back, scale=scale)

    files: str | None = None
    """Which files were read now and which passed over, in words; None where there is nothing to say."""

    @property
    def held_out(self) -> str:
        """The held-out share of the text, and how it was chosen, in words."""
        share = (self.meta.get("split_by", ""), self.meta.get("val_fraction"))
        return held_out(*share, self.train.n_bytes, self.val.n_bytes)

    def __repr__(self) -> str:
        """One line."""
        sizes = f"{self.train.n_tokens:,} tokens to train on, {self.val.n_tokens:,} held out"
        return f"prepared text {self.folder}: {sizes}, {self.tokenizer.kind} tokenizer"

    @property
    def identity(self) -> DataIdentity:
        """Its content, to be compared with that of other data."""
        return DataIdentity(train=self.train.text_hash, val=self.val.text_hash, fingerprint=self.fingerprint)


def is_prepared(folder: Path) -> bool:
    """Whether `minigpt prepare` finished writing here: an index of its own, which may be of another format, or damaged.

    Others have files of that name too.
    """
    path = folder / INDEX_NAME
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            beginning = file.read(len(FORMAT) + 64)
    except OSError:
        return False
    return _BEGINNING in beginning or (has_mark(folder, "prepared text") and bool(beginning))


def write_index(folder: Path, tokenizer: Tokenizer, encoded: EncodedCorpus, meta: dict[str, Any]) -> None:
    """Make the shards in `folder` one prepared corpus: the index names them, and readers believe only the index."""
    tokenizer_file = f"tokenizer-{tokenizer.fingerprint[:16]}.json"
    index: dict[str, Any] = {"format": FORMAT, "tokenizer": tokenizer_file, "meta": meta}
    for side in SIDES:
        headers = [read_header(path) for path in encoded.shards[side]]
        for path, header in zip(encoded.shards[side], headers, strict=True):
            remember("shard", path, header.checksum)  # they were summed while they were written
        index[side] = {
            "text_sha256": encoded.hashes[side],
            "n_bytes": encoded.n_bytes[side],
            "counted_bytes": encoded.counted_bytes.get(side, encoded.n_bytes[side]),
            "n_tokens": sum(header.n_tokens for header in headers),
            "n_documents": sum(header.n_documents for header in headers),
            "shards": [path.name for path in encoded.shards[side]],
            "checksums": [header.checksum for header in headers],
        }
    index["loss"] = encoded.loss.as_plain()
    index["fingerprint"] = _fingerprint(tokenizer, index)
    atomic_write(folder / tokenizer_file, tokenizer.to_json())
    atomic_write(folder / INDEX_NAME, json.dumps(index, indent=1) + "\n")


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a prepared folder. DataError if there is none, or another format's."""
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: not a prepared corpus: no {INDEX_NAME} in it (`minigpt prepare` writes one)"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged: {error}") from None
    found = index.get("format") if isinstance(index, dict) else None
    if found != FORMAT:
        raise DataError(f"{path}: its format is {found!r}, expected {FORMAT!r}")
    return dict(index)


def open_prepared(folder: Path) -> Prepared:
    """Open what `prepare` wrote. DataError if anything is not as it was written.

    The checksum of a shard is compared once for each state of the file, so that the next time is instant.
    """
    index = read_index(folder)
    try:
        tokenizer = load_tokenizer(folder / _plain_name(index["tokenizer"]))
        train, val = (_open_split(folder, index[side], tokenizer) for side in SIDES)
        prepared = Prepared(folder, tokenizer, train, val, index["fingerprint"], index["meta"], loss_of(index))
        expected = _fingerprint(tokenizer, index)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / INDEX_NAME}: damaged: {error!r}") from None
    if prepared.fingerprint != expected:
        raise DataError(
            f"{folder / INDEX_NAME}: damaged: its fingerprint is {prepared.fingerprint}, expected {expected}"
        )
    return prepared


def loss_of(index: dict[str, Any]) -> Loss | None:
    """The tokenizer's loss that an index records, or None. KeyError, TypeError or ValueError for a damaged one."""
    return None if "loss" not in index else Loss.from_plain(index["loss"])


def open_as_corpus(folder: Path, options: PrepareOptions, tokenizer: Tokenizer | None) -> Prepared:
    """A prepared folder in place of a corpus. DataError unless it was made with what is asked for.

    `tokenizer` is the one to be used, whatever the options name; None stands for the one that the options would make.
    """
    prepared = open_prepared(folder)
    names = ["val_fraction", "split"]
    if tokenizer is None:
        names += ["tokenizer", "vocab_size" if options.tokenizer == "bpe" else "unknown"]
    made = {name: prepared.meta.get(name) for name in names if prepared.meta.get(name) != getattr(options, name)}
    if made:
        differences = ", ".join(f"{name}={value} (asked for: {getattr(options, name)})" for name, value in made.items())
        raise DataError(f"{folder}: prepared with {differences}; ask for the same, or prepare the corpus again")
    found = prepared.tokenizer
    if tokenizer is not None and tokenizer.fingerprint != found.fingerprint:
        raise DataError(
            f"{folder}: prepared with another tokenizer: {found.kind} with {found.vocab_size} ids "
            f"({found.fingerprint[:16]}), asked for: {tokenizer.kind} with {tokenizer.vocab_size} "
            f"({tokenizer.fingerprint[:16]})"
        )
    return prepared


def _open_split(folder: Path, entry: dict[str, Any], tokenizer: Tokenizer) -> TokenSplit:
    paths = [folder / _plain_name(name) for name in entry["shards"]]
    for path, checksum in zip(paths, entry["checksums"], strict=True):
        header = read_header(path)
        if header.tokenizer != tokenizer.fingerprint:
            found, expected = header.tokenizer[:16], tokenizer.fingerprint[:16]
            raise DataError(f"{path}: made with another tokenizer: its fingerprint is {found}, expected {expected}")
        if header.checksum != checksum:
            raise DataError(f"{path}: not the shard of the index: checksum {header.checksum}, expected {checksum}")
    shards: list[np.ndarray] = [open_shard(path, verify=True) for path in paths]
    for path in paths:
        _check_tokens(path, tokenizer)
    return TokenSplit(
        shards=shards,
        document_starts=[open_document_starts(path) for path in paths],
        n_tokens=entry["n_tokens"],
        n_documents=entry["n_documents"],
        n_bytes=entry["n_bytes"],
        counted_bytes=entry.get("counted_bytes"),
        text_hash=str(entry.get("text_sha256") or ""),
    )


def _plain_name(name: str) -> str:
    """`name`, unless it leads out of the folder: an index from elsewhere opens no file but those beside it."""
    if PurePath(name).name != name or PureWindowsPath(name).name != name or name in {"", ".", ".."} or "\0" in name:
        raise ValueError(f"{name!r} is not the plain name of a file")
    return name


def _check_tokens(path: Path, tokenizer: Tokenizer) -> None:
    """DataError for a token that the tokenizer does not have, or a document that begins where none can.

    Looked at once for each state of the file.
    """
    if recall("tokens", path) == tokenizer.fingerprint:
        return
    largest = largest_token(path)
    if largest >= tokenizer.vocab_size:
        raise DataError(f"{path}: holds token {largest}, beyond the vocabulary of {tokenizer.vocab_size}")
    starts = open_document_starts(path).astype(np.int64)
    n_tokens = read_header(path).n_tokens
    if len(starts) and not (starts[0] >= 0 and starts[-1] <= n_tokens and (np.diff(starts) >= 0).all()):
        raise DataError(f"{path}: its documents do not begin one after another within its {n_tokens} tokens")
    remember("tokens", path, tokenizer.fingerprint)


def _fingerprint(tokenizer: Tokenizer, index: dict[str, Any]) -> str:
    content = [tokenizer.fingerprint, *(index[side]["checksums"] for side in SIDES)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

"""A prepared folder: the tokenizer, the shards of both splits, and the index that was written last."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.errors import DataError
from minigpt.files import atomic_write
from minigpt.text.shards import open_document_starts, open_shard, read_header
from minigpt.text.tokenizers import Tokenizer, load_tokenizer

INDEX_NAME = "index.json"
FORMAT = "minigpt prepared text 1"
SPLITS = ("train", "val")


@dataclass(frozen=True)
class TokenSplit:
    """The tokens of one split."""

    shards: list[np.ndarray]
    """Each (n,) uint8, uint16 or uint32, memory-mapped and read-only. No window crosses from one to the next."""
    document_starts: list[np.ndarray]
    """For each shard (k,) uint64, ascending: where in it a document begins. The first token of a later shard need not be one."""
    n_tokens: int
    n_documents: int
    n_bytes: int
    """UTF-8 bytes of the text behind the tokens."""


@dataclass(frozen=True)
class Prepared:
    """A corpus ready for training."""

    folder: Path
    tokenizer: Tokenizer
    train: TokenSplit
    val: TokenSplit
    fingerprint: str
    """sha256 (hex) of the tokenizer and of every shard of both splits, wherever the folder lies and however it was made."""
    meta: dict[str, Any]
    """How it was made: corpus, tokenizer, vocab_size, val_fraction, split (documents or position), key."""


def is_prepared(folder: Path) -> bool:
    """Whether `minigpt prepare` finished writing here."""
    return (folder / INDEX_NAME).is_file()


def write_index(
    folder: Path, tokenizer: Tokenizer, shards: dict[str, Sequence[Path]], n_bytes: dict[str, int], meta: dict[str, Any]
) -> None:
    """Make the shards in `folder` one prepared corpus: the index names them, and readers believe only the index."""
    index: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": f"tokenizer-{tokenizer.fingerprint[:16]}.json",
        "meta": meta,
    }
    for split in SPLITS:
        headers = [read_header(path) for path in shards[split]]
        index[split] = {
            "n_bytes": n_bytes[split],
            "n_tokens": sum(header.n_tokens for header in headers),
            "n_documents": sum(header.n_documents for header in headers),
            "shards": [path.name for path in shards[split]],
            "checksums": [header.checksum for header in headers],
        }
    index["fingerprint"] = _fingerprint(tokenizer, index)
    atomic_write(folder / index["tokenizer"], tokenizer.to_json())
    atomic_write(folder / INDEX_NAME, json.dumps(index, indent=1) + "\n")


def open_prepared(folder: Path) -> Prepared:
    """Open what `prepare` wrote. Checksums are read once for each state of a file. DataError if anything is not as written."""
    index = read_index(folder)
    try:
        tokenizer = load_tokenizer(folder / index["tokenizer"])
        train, val = (_open_split(folder, index[split], tokenizer) for split in SPLITS)
        meta, fingerprint = index["meta"], index["fingerprint"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / INDEX_NAME}: damaged: {error} is missing or of the wrong kind") from None
    if fingerprint != _fingerprint(tokenizer, index):
        raise DataError(
            f"{folder / INDEX_NAME}: its fingerprint does not fit its tokenizer and shards; prepare it again"
        )
    return Prepared(folder, tokenizer, train, val, fingerprint, meta)


def read_index(folder: Path) -> dict[str, Any]:
    """The index of a prepared folder. DataError if there is none, or another format's."""
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: not a prepared corpus: it has no {INDEX_NAME} (`minigpt prepare` writes one)"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged: {error}") from None
    found = index.get("format") if isinstance(index, dict) else None
    if found != FORMAT:
        raise DataError(f"{path}: its format is {found!r}, expected {FORMAT!r}")
    return dict(index)


def _open_split(folder: Path, entry: dict[str, Any], tokenizer: Tokenizer) -> TokenSplit:
    paths = [folder / name for name in entry["shards"]]
    for path, checksum in zip(paths, entry["checksums"], strict=True):
        header = read_header(path)
        if header.tokenizer != tokenizer.fingerprint:
            short = f"{header.tokenizer[:16]}, expected {tokenizer.fingerprint[:16]}"
            raise DataError(f"{path}: made with another tokenizer: its fingerprint is {short}")
        if header.checksum != checksum:
            raise DataError(f"{path}: another shard than the index names: {header.checksum}, expected {checksum}")
    return TokenSplit(
        shards=[open_shard(path, verify=True) for path in paths],
        document_starts=[open_document_starts(path) for path in paths],
        n_tokens=entry["n_tokens"],
        n_documents=entry["n_documents"],
        n_bytes=entry["n_bytes"],
    )


def _fingerprint(tokenizer: Tokenizer, index: dict[str, Any]) -> str:
    content = [tokenizer.fingerprint, *(index[split]["checksums"] for split in SPLITS)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

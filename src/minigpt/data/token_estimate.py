"""The number of tokens of a corpus: counted where it is prepared already, estimated from its size where not.

Nothing is tokenised, trained, downloaded or written.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minigpt.data.checks import check_round_trip
from minigpt.data.compression import is_compressed
from minigpt.data.corpus import Corpus, open_corpus
from minigpt.data.identity import DataIdentity
from minigpt.data.named_corpora import SHAKESPEARE_BYTES, needs_network
from minigpt.data.options import LEAST_BPE_VOCABULARY, PrepareOptions
from minigpt.data.prepare import find_prepared, prepare_cached
from minigpt.data.prepared import is_prepared, loss_of, read_index
from minigpt.data.round_trip import refuse_loss
from minigpt.data.shards import open_shard
from minigpt.data.splitting import held_out
from minigpt.data.tokenizers import TOKENIZER_NAMES, ByteTokenizer, Tokenizer, find_tokenizer, load_tokenizer
from minigpt.errors import DataError
from minigpt.system.files import home_path
from minigpt.system.units import bytes_text

CHARACTERS = 65
"""Distinct ones in tiny Shakespeare: the vocabulary of `char` where there is no text to count."""
GPT2_TOKENS = 50_257
"""256 bytes, 50,000 merges and the end of a text (Radford et al. 2019, section 2.2)."""
_READ_AT_MOST = 1 << 30
"""Bytes that are hashed to find a prepared corpus: a second or two."""
_LOOKED_AT = 20_000_000
"""Tokens that are looked at to see which of the vocabulary occur."""
_COMPRESSION = 4.0
"""Times that gzip and Zstandard make a text smaller, about."""


@dataclass(frozen=True, kw_only=True)
class TextOutlook:
    """The tokens of a corpus, before anything is prepared."""

    train_tokens: int
    val_tokens: int
    vocab_size: int
    """Ids of the tokenizer, not padded."""
    used_vocabulary: int | None
    """How many of them occur in the training text, or in its first tokens; None: not counted."""
    n_bytes: float
    """UTF-8 bytes of the text, both splits."""
    held_out: str
    """The share of the text that is held out, and how, in words."""
    is_exact: bool
    files: str | None
    """Which files of the corpus are read and which passed over, in words; None where there is nothing to say."""
    source: str
    """Where the numbers come from, in words."""
    identity: DataIdentity = field(default_factory=DataIdentity)
    """Which text it is; nothing is known of it before it is prepared."""
    tokenizer_fingerprint: str = ""
    """Empty: not known yet."""


def look_ahead(options: PrepareOptions, tokenizer: Tokenizer | None = None) -> TextOutlook:
    """Count or estimate the tokens of a corpus under these options, `tokenizer` in place of the one that they name.

    Raises DataError where there is neither a corpus nor an estimate of it.
    """
    if is_prepared(home_path(options.corpus)):
        prepared = prepare_cached(options, tokenizer=tokenizer)  # what fit does, and refuses
        return _counted(prepared.folder, options, None)
    corpus = None if needs_network(options.corpus) else open_corpus(options.corpus, options.text_field)
    if corpus is None or corpus.unread_bytes <= _READ_AT_MOST:
        folder = _find(options, tokenizer, corpus)
        if folder is not None:
            return _counted(folder, options, corpus)
        check_round_trip(options, tokenizer, corpus)
    return _estimated(options, corpus, tokenizer)


def content_of(corpus: str, text_field: str, tokenizer: str) -> dict[str, str]:
    """`corpus` and `tokenizer` by what they are, not by how they are spelt, where that is quickly known."""
    found = {"corpus": corpus, "tokenizer": tokenizer}
    with contextlib.suppress(DataError, OSError):
        if is_prepared(home_path(corpus)):
            found["corpus"] = str(read_index(home_path(corpus)).get("fingerprint"))
        elif not needs_network(corpus):
            files = open_corpus(corpus, text_field)
            small = files.unread_bytes <= _READ_AT_MOST
            found["corpus"] = files.fingerprint() if small else " ".join(str(path.resolve()) for path in files.files)
    with contextlib.suppress(DataError, OSError):
        if tokenizer not in TOKENIZER_NAMES:
            found["tokenizer"] = find_tokenizer(tokenizer).fingerprint
    return found


def expected_vocabulary(tokenizer: str, vocab_size: int) -> int:
    """The size of a tokenizer's vocabulary, without its text; `vocab_size` is what a bpe would learn."""
    known = _VOCABULARIES.get(tokenizer)
    return known(vocab_size) if known else find_tokenizer(tokenizer).vocab_size


_VOCABULARIES: dict[str, Callable[[int], int]] = {
    "byte": lambda _: ByteTokenizer.vocab_size,
    "char": lambda _: CHARACTERS,
    "bpe": lambda vocab_size: vocab_size,
    "gpt2": lambda _: GPT2_TOKENS,
}


def bytes_per_token(tokenizer: str, vocab_size: int) -> float:
    """About how many bytes of text a token stands for.

    For byte-level BPE a curve through what was counted: Python's standard library with 512, 1,024, 4,096 and 16,384
    tokens has 2.15, 2.71, 3.60 and 4.15 bytes a token, tiny Shakespeare with 512, 2,048 and 8,192 has 1.94, 2.89, 3.54.
    Below 512 the first merges weigh most, and without any a token is a byte: tiny Shakespeare with 264, 288 and 384 has
    1.10, 1.30 and 1.70, part of the standard library 1.22, 1.45 and 1.90.
    """
    if tokenizer in ("byte", "char"):
        return 1.0
    if vocab_size < 512:
        merges = max(0, vocab_size - LEAST_BPE_VOCABULARY)
        return 1 + (merges / (512 - LEAST_BPE_VOCABULARY)) ** 0.5
    return 4.8 - 2.8 * (512 / vocab_size) ** 0.35


def _find(options: PrepareOptions, tokenizer: Tokenizer | None, corpus: Corpus | None) -> Path | None:
    if corpus is None:
        return None
    try:
        return find_prepared(options, tokenizer, corpus)
    except DataError:  # GPT-2's tokenizer is not on this machine, say: an estimate needs none
        return None


def _counted(folder: Path, options: PrepareOptions, corpus: Corpus | None) -> TextOutlook:
    index = read_index(folder)
    refuse_loss(options, loss_of(index))
    tokenizer = load_tokenizer(folder / index["tokenizer"])
    return TextOutlook(
        train_tokens=index["train"]["n_tokens"],
        val_tokens=index["val"]["n_tokens"],
        vocab_size=tokenizer.vocab_size,
        used_vocabulary=_used([folder / name for name in index["train"]["shards"]]),
        n_bytes=index["train"]["n_bytes"] + index["val"]["n_bytes"],
        held_out=held_out(
            index["meta"]["split_by"], index["meta"]["val_fraction"], index["train"]["n_bytes"], index["val"]["n_bytes"]
        ),
        identity=DataIdentity(
            **{side: str(index[side].get("text_sha256") or "") for side in ("train", "val")},
            fingerprint=index["fingerprint"],
        ),
        tokenizer_fingerprint=tokenizer.fingerprint,
        is_exact=True,
        files=corpus.description if corpus else None,
        source=f"counted in {folder.name}",
    )


def _used(shards: list[Path]) -> int:
    """Distinct tokens among the first ones of the shards."""
    seen: set[int] = set()
    left = _LOOKED_AT
    for path in shards:
        tokens = open_shard(path, verify=False)[:left]
        seen.update(np.unique(tokens).tolist())
        left -= len(tokens)
        if left <= 0:
            break
    return len(seen)


def _estimated(options: PrepareOptions, corpus: Corpus | None, tokenizer: Tokenizer | None) -> TextOutlook:
    n_bytes, what = _text_bytes(corpus)
    vocab_size = tokenizer.vocab_size if tokenizer else expected_vocabulary(options.tokenizer, options.vocab_size)
    per_token = bytes_per_token(tokenizer.kind if tokenizer else options.tokenizer, vocab_size)
    tokens = int(n_bytes / per_token)
    val_tokens = int(tokens * options.val_fraction)
    return TextOutlook(
        train_tokens=tokens - val_tokens,
        val_tokens=val_tokens,
        vocab_size=vocab_size,
        used_vocabulary=None,
        n_bytes=n_bytes,
        held_out=f"about {options.val_fraction:.1%}",
        is_exact=False,
        files=corpus.description if corpus else None,
        source=f"estimated at {per_token:.2g} byte{'' if per_token == 1 else 's'} a token from {what}",
    )


def _text_bytes(corpus: Corpus | None) -> tuple[float, str]:
    """Bytes of text, about, and in words; those of Shakespeare where there is no corpus yet."""
    if corpus is None:
        return SHAKESPEARE_BYTES, f"{bytes_text(SHAKESPEARE_BYTES)}, not downloaded yet"
    n_bytes = sum(path.stat().st_size * (_COMPRESSION if is_compressed(path) else 1.0) for path in corpus.files)
    return n_bytes, bytes_text(n_bytes)

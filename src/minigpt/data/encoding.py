"""Passes over a corpus in worker processes: survey every piece, measure documents, turn pieces into tokens and join
them."""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from minigpt.data.bpe import LibraryTokenizer
from minigpt.data.corpus import Corpus
from minigpt.data.processes import WorkerPool
from minigpt.data.progress import Progress
from minigpt.data.round_trip import Loss, RoundTrip, total_loss
from minigpt.data.shards import ShardWriter, checksum_of, open_document_starts, open_shard, read_header, token_dtype
from minigpt.data.sources import Fragment, Span, read_span
from minigpt.data.splitting import (
    SIDES,
    PieceSizes,
    PieceSummary,
    Side,
    SplitRule,
    Survey,
    measure_piece,
    summarise_piece,
)
from minigpt.data.tokenizers import Tokenizer, load_tokenizer
from minigpt.errors import DataError
from minigpt.system.files import atomic_write

_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class Job:
    """The inputs of every pass. `work` keeps what is finished, so that a stopped run continues there."""

    corpus: Corpus
    work: Path
    pool: WorkerPool
    report: Progress


def survey_corpus(job: Job, val_fraction: float, with_characters: bool) -> Survey:
    """Pass 1: read everything once, check it, count it."""
    kept = job.work / "survey.json"
    if kept.exists():
        return Survey([PieceSummary(*fields) for fields in json.loads(kept.read_text(encoding="utf-8"))])
    summaries: list[PieceSummary] = []
    on_disk, done = job.corpus.n_bytes, 0
    tasks = ((piece, val_fraction, with_characters) for piece in job.corpus.pieces())
    for summary in job.pool.map(summarise_piece, tasks):
        summaries.append(summary)
        done += summary.n_bytes
        job.report("reading", done, max(done, on_disk))
    atomic_write(kept, json.dumps(summaries))
    return Survey(summaries)


def measure_documents(job: Job, survey: Survey, least: int) -> Iterator[PieceSizes]:
    """Pass 1 again, only where whole documents miss the share that is to be held out: how long each document is."""
    done = 0
    sizes = job.pool.map(measure_piece, ((piece, least) for piece in job.corpus.pieces()))
    for summary, found in zip(survey.pieces, sizes, strict=True):
        done += summary.n_bytes
        job.report("reading again", done, survey.n_bytes)
        yield found


class LossError(Exception):
    """The text that was read so far did not come back as it was."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(str(loss))
        self.loss = loss


class EncodedCorpus(NamedTuple):
    """The shards of each side, in order, how many tokens they hold, and the bytes and the hash of their text."""

    shards: dict[Side, list[Path]]
    n_tokens: dict[Side, int]
    n_bytes: dict[Side, int]
    hashes: dict[Side, str]
    """sha256 (hex) of the text: UTF-8, and behind each document a byte 0xFF, which no UTF-8 holds."""
    counted_bytes: Mapping[Side, int] = MappingProxyType({})
    """Bytes that its tokens are taken for (see ByteCorrection), where that is not `n_bytes`."""
    loss: Loss = Loss()
    """The part of both sides that the tokenizer does not give back."""


def encode_corpus(
    job: Job, survey: Survey, rule: SplitRule, tokenizer: Tokenizer, out: Path, *, allow_loss: bool = True
) -> EncodedCorpus:
    """Pass 3: write the shards into `out`. Their names differ from those of another content that may be there.

    All of the text is turned back and compared. LossError at the first piece that does not come back as it was, unless
    `allow_loss`.
    """
    file = job.work / "tokenizer.json"
    atomic_write(file, tokenizer.to_json())
    encoder = _PieceEncoder(
        file,
        rule,
        tokenizer.end_of_text if survey.n_documents > 1 else None,
        job.work,
        starts_are_seen=tokenizer.end_of_text is not None or survey.n_documents == 1,
    )
    offsets = survey.offsets
    digests = {side: hashlib.sha256() for side in SIDES}
    hashed = _hashed(job.corpus.pieces(), rule, offsets, digests)
    documents = [0, *accumulate(piece.n_documents for piece in survey.pieces)]
    tasks = ((encoder, number, (offsets[number], documents[number]), piece) for number, piece in enumerate(hashed))
    total, done = survey.n_bytes, 0
    pieces: list[_EncodedPiece] = []
    losses: list[Loss] = []
    for encoded in job.pool.map(_encode_piece, tasks):
        pieces.append(encoded)
        losses.append(Loss.from_plain(encoded.loss))
        if losses[-1] and not allow_loss:
            raise LossError(total_loss(losses))
        done += sum(encoded.n_bytes)
        job.report("tokenising", done, total)
    shards: dict[Side, list[Path]] = {}
    for index, side in enumerate(SIDES):
        with ShardWriter(out, f"{side}-{job.work.name[:8]}", tokenizer.vocab_size, tokenizer.fingerprint) as writer:
            for path in (job.work / piece.files[index] for piece in pieces if piece.files[index]):
                writer.append(open_shard(path), open_document_starts(path))
        shards[side] = writer.paths
    n_tokens = {side: sum(read_header(path).n_tokens for path in shards[side]) for side in SIDES}
    n_bytes = {side: sum(piece.n_bytes[index] for piece in pieces) for index, side in enumerate(SIDES)}
    hashes = {side: digest.hexdigest() for side, digest in digests.items()}
    counted = {side: sum(piece.counted_bytes[index] for piece in pieces) for index, side in enumerate(SIDES)}
    return EncodedCorpus(shards, n_tokens, n_bytes, hashes, counted, total_loss(losses))


def _hashed(
    pieces: Iterable[tuple[Span, ...]], rule: SplitRule, offsets: Sequence[int], digests: Mapping[Side, Any]
) -> Iterator[tuple[Span, ...]]:
    """`pieces`, each given out when its text is in the digest of its side.

    Here, not in the workers: a hash is made from the beginning to the end, and this process has nothing else to do. It
    is of the text alone, so neither the tokenizer nor the pieces change it.
    """
    for number, piece in enumerate(pieces):
        for side, fragment in rule.apply(read_piece(piece), offsets[number]):
            digests[side].update(fragment.text.encode("utf-8"))
            if fragment.ends:
                digests[side].update(b"\xff")
        yield piece


@dataclass(frozen=True)
class _PieceEncoder:
    """Settings that all pieces of a corpus share."""

    tokenizer_file: Path
    rule: SplitRule
    end_of_text: int | None
    """The id that closes each document, if any."""
    work: Path
    starts_are_seen: bool


class _EncodedPiece(NamedTuple):
    """For each of SIDES: the name of the file with the tokens (empty if there are none), the bytes of their text, and
    those that are counted for the tokens; and what the text of both loses, in plain values."""

    files: list[str]
    n_bytes: list[int]
    counted_bytes: list[int]
    loss: dict[str, Any]


def _encode_piece(
    encoder: _PieceEncoder, number: int, before: tuple[int, int], piece: tuple[Span, ...]
) -> _EncodedPiece:
    """In a worker: write the tokens of one piece, then a note that they are written.

    `before` are the bytes and the documents of the corpus that begin before it.
    """
    note = encoder.work / f"piece-{number:06d}.json"
    finished = _read_note(note)
    if finished is not None:
        return finished
    tokenizer = _tokenizer(encoder.tokenizer_file)
    sorted_out: dict[Side, list[Fragment]] = {side: [] for side in SIDES}
    numbers: dict[Side, list[int]] = {side: [] for side in SIDES}
    offset, document = before
    for whole in read_piece(piece):
        document += whole.begins
        for side, fragment in encoder.rule.apply([whole], offset):
            sorted_out[side].append(fragment)
            numbers[side].append(document)
        offset += whole.n_bytes
    encoded = _EncodedPiece([], [], [], {})
    losses: list[Loss] = []
    trial = RoundTrip(tokenizer, starts_are_seen=encoder.starts_are_seen)
    for side, fragments in sorted_out.items():
        arrays = encode_fragments(fragments, tokenizer)
        tokens, starts = _join(fragments, arrays, encoder.end_of_text, token_dtype(tokenizer.vocab_size))
        tried = [trial.try_on(*each) for each in zip(fragments, arrays, numbers[side], strict=True)]
        losses += [loss for loss, _ in tried]
        encoded.counted_bytes.append(sum(counted for _, counted in tried))
        # Not durable: a piece is checked before it is used, and syncing each would take longer than making it.
        with ShardWriter(
            encoder.work,
            f"{note.stem}-{side}",
            tokenizer.vocab_size,
            tokenizer.fingerprint,
            shard_tokens=_NO_LIMIT,
            durable=False,
        ) as writer:
            writer.append(tokens, starts)
        encoded.files.append(writer.paths[0].name if writer.paths else "")
        encoded.n_bytes.append(sum(fragment.n_bytes for fragment in fragments))
    encoded.loss.update(sum(losses, Loss()).as_plain())
    note.write_text(json.dumps(encoded), encoding="utf-8")
    return encoded


def encode_fragments(fragments: Sequence[Fragment], tokenizer: Tokenizer) -> list[np.ndarray]:
    """The ids of each, nothing put in front of those that go on with a document."""
    if not (isinstance(tokenizer, LibraryTokenizer) and tokenizer.prefix):
        return tokenizer.encode_batch([fragment.text for fragment in fragments])
    whole = iter(tokenizer.encode_batch([fragment.text for fragment in fragments if fragment.begins]))
    return [next(whole) if each.begins else tokenizer.encode_continuing(each.text) for each in fragments]


def _join(
    fragments: Sequence[Fragment], encoded: Sequence[np.ndarray], end_of_text: int | None, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) tokens of the fragments one after another, each document closed, and (k,) where in them documents begin."""
    close = np.array([] if end_of_text is None else [end_of_text], dtype=dtype)
    arrays: list[np.ndarray] = [close[:0]]
    starts: list[int] = []
    n_tokens = 0
    for fragment, ids in zip(fragments, encoded, strict=True):
        if fragment.begins:
            starts.append(n_tokens)
        arrays += [ids, close] if fragment.ends else [ids]
        n_tokens += len(ids) + (len(close) if fragment.ends else 0)
    return np.concatenate(arrays), np.array(starts, dtype=np.int64)


def _read_note(note: Path) -> _EncodedPiece | None:
    """The result that an earlier run finished, if it is still whole."""
    try:
        finished = _EncodedPiece(*json.loads(note.read_text(encoding="utf-8")))
        paths = [note.parent / name for name in finished.files if name]
        is_whole = all(checksum_of(path) == read_header(path).checksum for path in paths)
    except (OSError, ValueError, TypeError, DataError):
        return None
    return finished if is_whole else None


def read_piece(piece: tuple[Span, ...]) -> Iterator[Fragment]:
    for span in piece:
        yield from read_span(span)


@functools.lru_cache(maxsize=1)
def _tokenizer(file: Path) -> Tokenizer:
    return load_tokenizer(file)

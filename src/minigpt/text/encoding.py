"""The three passes over a corpus: look at every piece, learn a vocabulary, turn every piece into tokens and join them."""

import functools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigpt.errors import DataError
from minigpt.files import atomic_write
from minigpt.text.bpe import train_bpe
from minigpt.text.corpus import Corpus
from minigpt.text.pieces import cut_text
from minigpt.text.processes import WorkerPool
from minigpt.text.progress import Progress
from minigpt.text.shards import ShardWriter, open_document_starts, open_shard
from minigpt.text.sources import Span, read_span
from minigpt.text.splitting import PieceSummary, SplitName, SplitRule, summarise_piece
from minigpt.text.tokenizers import Tokenizer, load_tokenizer, tokenizer_from_json

SPLITS: tuple[SplitName, ...] = ("train", "val")
BPE_SAMPLE_BYTES = 100 << 20
"""BPE learns from about this much text at most, in pieces spread evenly over the training part."""
_WORD_RUN = 1 << 15


@dataclass(frozen=True)
class Job:
    """What every pass needs. `work` keeps what is finished, so that a stopped run goes on there."""

    corpus: Corpus
    work: Path
    pool: WorkerPool
    report: Progress


class PieceTokens(NamedTuple):
    """One piece, tokenised: the files of its splits (one has no file if it got no token) and their bytes of text."""

    files: dict[str, str]
    n_bytes: dict[str, int]


def summarise_corpus(job: Job, with_characters: bool) -> list[PieceSummary]:
    """Pass 1: read everything once, check it, count it."""
    kept = job.work / "summaries.json"
    if kept.exists():
        return [PieceSummary(*fields) for fields in json.loads(kept.read_text(encoding="utf-8"))]
    summaries: list[PieceSummary] = []
    total, done = job.corpus.n_bytes, 0
    tasks = ((piece, with_characters) for piece in job.corpus.pieces())
    for summary in job.pool.map(summarise_piece, tasks):
        summaries.append(summary)
        done += summary.n_bytes
        job.report("reading", done, max(done, total))
    atomic_write(kept, json.dumps(summaries))
    return summaries


def learn_vocabulary(job: Job, vocab_size: int, summaries: Sequence[PieceSummary], rule: SplitRule) -> Tokenizer:
    """Pass 2, for bpe: learn it from a bounded sample of the training part, in a worker, so that Ctrl-C can stop it."""
    kept = job.work / "bpe.json"
    if not kept.exists():
        job.report("learning the vocabulary", 0, 0)
        every = max(1, math.ceil(sum(summary.n_bytes for summary in summaries) / BPE_SAMPLE_BYTES))
        task = (job.corpus, every, _offsets(summaries), rule, vocab_size)
        [learnt] = job.pool.map(_learn_from_sample, [task])
        atomic_write(kept, learnt)
    return load_tokenizer(kept)


def encode_corpus(
    job: Job, summaries: Sequence[PieceSummary], rule: SplitRule, tokenizer: Tokenizer, out: Path, stem: str
) -> tuple[dict[str, list[Path]], dict[str, int]]:
    """Pass 3: the shards of each split in `out`, named `SPLIT-STEM-NUMBER.bin`, and each split's bytes of text."""
    closes = sum(summary.n_documents for summary in summaries) > 1
    tokenizer_file = job.work / f"tokenizer-{tokenizer.fingerprint[:16]}.json"
    atomic_write(tokenizer_file, tokenizer.to_json())
    offsets = _offsets(summaries)
    tasks = (
        (piece, offsets[number], rule, tokenizer_file, closes, job.work, number)
        for number, piece in enumerate(job.corpus.pieces())
    )
    total, done = sum(summary.n_bytes for summary in summaries), 0
    pieces: list[PieceTokens] = []
    for piece in job.pool.map(_encode_piece, tasks):
        pieces.append(piece)
        done += sum(piece.n_bytes.values())
        job.report("tokenising", done, total)
    shards = {}
    for split in SPLITS:
        with ShardWriter(out, f"{split}-{stem}", tokenizer.vocab_size, tokenizer.fingerprint) as writer:
            for piece in pieces:
                if split in piece.files:
                    path = job.work / piece.files[split]
                    writer.append(open_shard(path), open_document_starts(path))
        shards[split] = writer.paths
    return shards, {split: sum(piece.n_bytes[split] for piece in pieces) for split in SPLITS}


def _offsets(summaries: Sequence[PieceSummary]) -> list[int]:
    """Where the text of each piece begins in the text of the corpus, in bytes."""
    sizes = [summary.n_bytes for summary in summaries]
    return [0, *np.cumsum(sizes, dtype=np.int64).tolist()][:-1]


def _learn_from_sample(corpus: Corpus, every: int, offsets: list[int], rule: SplitRule, vocab_size: int) -> str:
    """In a worker. Every `every`-th piece; validation text teaches nothing."""

    def documents() -> Iterator[str]:
        for number, piece in enumerate(corpus.pieces()):
            if number % every == 0:
                fragments = (fragment for span in piece for fragment in read_span(span))
                for split, fragment in rule.apply(fragments, offsets[number]):
                    if split == "train":
                        # The library collects some hundred texts before it counts their words: short ones, please.
                        yield from cut_text(fragment.text, _WORD_RUN)

    return train_bpe(documents(), vocab_size).to_json()


def _encode_piece(
    piece: tuple[Span, ...], offset: int, rule: SplitRule, tokenizer_file: Path, closes: bool, work: Path, number: int
) -> PieceTokens:
    """In a worker. The note beside a piece's files is written last and says that they are finished."""
    tokenizer = _tokenizer(tokenizer_file)
    note = work / f"piece-{number:06d}-{tokenizer.fingerprint[:16]}.json"
    finished = _read_note(note, work)
    if finished is not None:
        return finished
    texts: dict[SplitName, list[str]] = {split: [] for split in SPLITS}
    begins: dict[SplitName, list[bool]] = {split: [] for split in SPLITS}
    ends: dict[SplitName, list[bool]] = {split: [] for split in SPLITS}
    fragments = (fragment for span in piece for fragment in read_span(span))
    for split, fragment in rule.apply(fragments, offset):
        texts[split].append(fragment.text)
        begins[split].append(fragment.begins)
        ends[split].append(fragment.ends and closes and tokenizer.end_of_text is not None)
    files = {}
    for split in SPLITS:
        with ShardWriter(
            work, f"piece-{number:06d}-{split}", tokenizer.vocab_size, tokenizer.fingerprint, 1 << 62
        ) as writer:
            for ids, is_begin, is_end in zip(
                tokenizer.encode_batch(texts[split]), begins[split], ends[split], strict=True
            ):
                tokens = np.append(ids, tokenizer.end_of_text) if is_end else ids
                writer.append(tokens, np.zeros(int(is_begin), dtype=np.int64))
        if writer.paths:
            files[split] = writer.paths[0].name
    n_bytes = {split: sum(len(text.encode("utf-8")) for text in texts[split]) for split in SPLITS}
    result = PieceTokens(files, n_bytes)
    atomic_write(note, json.dumps(result))
    return result


def _read_note(note: Path, work: Path) -> PieceTokens | None:
    """What an earlier run finished, if it is still whole."""
    try:
        finished = PieceTokens(*json.loads(note.read_text(encoding="utf-8")))
        for name in finished.files.values():
            open_shard(work / name, verify=True)
    except (OSError, ValueError, TypeError, DataError):
        return None
    return finished


@functools.lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    return tokenizer_from_json(path.read_text(encoding="utf-8"), str(path))

"""Learning the vocabulary of a bpe tokenizer from a sample of the training part of a corpus."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from minigpt.data.bpe import train_bpe
from minigpt.data.corpus import Corpus
from minigpt.data.encoding import Job, read_piece
from minigpt.data.pieces import cut_text
from minigpt.data.processes import WorkerPool
from minigpt.data.splitting import SplitRule, Survey
from minigpt.data.tokenizers import Tokenizer, load_tokenizer
from minigpt.data.words import split_words
from minigpt.system.files import atomic_write

BPE_SAMPLE_BYTES = 64 << 20
"""BPE learns from about this much text at most, in pieces spread evenly over the training part."""
BPE_SAMPLE_WORDS = 6 << 20
"""And from no more when its distinct words have this many characters: learning takes some 60 bytes for each."""
_SAMPLE_CHARACTERS = 1 << 15


def learn_vocabulary(job: Job, vocab_size: int, survey: Survey, rule: SplitRule) -> Tokenizer:
    """Pass 2, for bpe alone: learn from a bounded sample of the training part.

    In one process, which uses all cores, gives its memory back, and can be killed by Ctrl-C whatever it does.
    """
    kept = job.work / "bpe.json"
    if not kept.exists():
        job.report("learning the vocabulary", 0, 0)
        every = max(1, math.ceil(survey.n_bytes / BPE_SAMPLE_BYTES))
        with WorkerPool(1) as pool:
            most = BPE_SAMPLE_WORDS if survey.n_bytes > 2 * BPE_SAMPLE_WORDS else None
            task = (job.corpus, _Sample(every, survey.offsets, rule, most), vocab_size)
            [learnt] = pool.map(_learn_from_sample, [task])
        atomic_write(kept, learnt)
    return load_tokenizer(kept)


@dataclass(frozen=True)
class _Sample:
    """The sample that BPE learns from: the training part of every `every`-th piece."""

    every: int
    offsets: list[int]
    rule: SplitRule
    most_words: int | None
    """Characters of distinct words after which it ends; None for a text too short to have too many."""


def _learn_from_sample(corpus: Corpus, sample: _Sample, vocab_size: int) -> str:
    """In a worker: the vocabulary of the sample, as JSON. Validation text teaches nothing."""
    return train_bpe(_texts_of_sample(corpus, sample), vocab_size).to_json()


def _texts_of_sample(corpus: Corpus, sample: _Sample) -> Iterator[str]:
    words: set[str] = set()
    n_characters = 0
    for number, piece in enumerate(corpus.pieces()):
        if number % sample.every == 0:
            for side, fragment in sample.rule.apply(read_piece(piece), sample.offsets[number]):
                # The library collects some hundred texts before it counts their words: short ones, then.
                for text in cut_text(fragment.text, _SAMPLE_CHARACTERS) if side == "train" else ():
                    yield text
                    if sample.most_words is not None:
                        new = set(split_words(text)) - words
                        words |= new
                        n_characters += sum(map(len, new))
                        if n_characters > sample.most_words:
                            return

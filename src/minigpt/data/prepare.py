"""Documents -> shards: in bounded memory, by several processes, restartable, and done once for each content."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from minigpt.data.cache import cache_root
from minigpt.data.corpus import Corpus, open_corpus
from minigpt.data.encoding import (
    Job,
    LossError,
    encode_corpus,
    measure_documents,
    survey_corpus,
)
from minigpt.data.options import PrepareOptions
from minigpt.data.prepare_folder import check_folder, holds, lock, refuse_other, remove_others, work_folder
from minigpt.data.prepared import (
    Prepared,
    TokenSplit,
    is_prepared,
    open_as_corpus,
    open_prepared,
    write_index,
)
from minigpt.data.processes import WorkerPool
from minigpt.data.progress import Progress, ignore_progress, reporting
from minigpt.data.round_trip import refuse_loss
from minigpt.data.splitting import SIDES, SplitRule, choose_rule
from minigpt.data.tokenizers import CharTokenizer, Tokenizer, find_tokenizer
from minigpt.data.vocabulary import learn_vocabulary
from minigpt.errors import DataError
from minigpt.system.files import home_path
from minigpt.system.marks import write_mark

__all__ = ["PrepareOptions", "Prepared", "TokenSplit", "open_prepared", "prepare", "prepare_cached"]

_RECIPE = 1
"""Part of every key: raised when the same options come to give other tokens."""


@dataclass(frozen=True)
class _Recipe:
    """Options, looked up: the corpus as it is now, and the tokenizer if it need not be made."""

    options: PrepareOptions
    corpus: Corpus
    state: list[tuple[int, int]]
    tokenizer: Tokenizer | None
    content: str
    """The corpus' fingerprint."""
    whole: bool = False
    """Whether nothing is held out: a text that is not for training."""

    def key(self, tokenised_by: str | None = None) -> str:
        """sha256 (hex) of all that decides the result."""
        fields = [_RECIPE, self.content, tokenised_by or self._tokenised_by()]
        fields += ["whole"] if self.whole else [str(self.options.val_fraction), self.options.split]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()

    def _tokenised_by(self) -> str:
        if self.tokenizer is not None:
            return self.tokenizer.fingerprint
        asked = self.options
        return f"bpe {asked.vocab_size}" if asked.tokenizer == "bpe" else f"char {asked.unknown}"


def prepare(
    options: PrepareOptions,
    out: Path,
    *,
    progress: Progress | bool = False,
    tokenizer: Tokenizer | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Write the corpus as shards into the folder `out`, and open them.

    If `out` holds the result already, it is opened. Another prepared text there is a DataError; with
    `overwrite` it is replaced once the new one is whole.
    A run that was stopped, however hard, is taken up at the piece where it stopped. `tokenizer` is used instead of
    the one that the options name. DataError for whatever is wrong with the corpus, the tokenizer or the folder.
    """
    if is_prepared(home_path(options.corpus)):
        raise DataError(f"{options.corpus}: prepared already; minigpt fit takes it as --data.corpus")
    with _one_line_errors(out), reporting(progress) as report:
        return _make(_look_up(options, tokenizer, report=report), out, report, overwrite=overwrite)


def prepare_cached(
    options: PrepareOptions,
    *,
    progress: Progress | bool = False,
    tokenizer: Tokenizer | None = None,
    cache: Path | None = None,
    whole: bool = False,
) -> Prepared:
    """As `prepare`, into a folder of the cache that is named after the content: the second time it is only opened.

    An edited text has another name, so it is never mixed up with what it was. A folder that `minigpt prepare` wrote
    may stand for the corpus; options that contradict it are a DataError. `cache` stands for `cache_root()`.
    `whole` holds nothing out: all of the text is in `train`, as one stream of tokens, and no fraction matters.
    """
    folder = home_path(options.corpus)
    root = (cache_root() if cache is None else cache) / "data"
    with _one_line_errors(root), reporting(progress) as report:
        if is_prepared(folder):
            tokenizer = tokenizer or _existing_tokenizer(options)
            return _accepted(options, open_as_corpus(folder, options, tokenizer), tokenizer)
        recipe = replace(_look_up(options, tokenizer, report=report), whole=whole)
        out = _place(recipe, root)
        with _advising_removal(out):
            return _make(recipe, out, report, overwrite=True)


def find_prepared(
    options: PrepareOptions, tokenizer: Tokenizer | None = None, corpus: Corpus | None = None
) -> Path | None:
    """The folder that `prepare_cached` would open, None where it would have to prepare first; nothing is written.

    The corpus (`corpus`, if it is open already) is read once, for its fingerprint. DataError where corpus or tokenizer
    cannot be had.
    """
    folder, root = home_path(options.corpus), cache_root() / "data"
    with _one_line_errors(root):
        if is_prepared(folder):
            return folder
        recipe = _look_up(options, tokenizer, corpus)
        out = _place(recipe, root)
        return out if holds(out, recipe.key()) else None


def _place(recipe: _Recipe, root: Path) -> Path:
    """The folder of the cache for a recipe, by its content."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", recipe.corpus.name)[:60]
    label = recipe.tokenizer.kind if recipe.tokenizer else recipe.options.tokenizer
    out = root / f"{name}-{label}-{recipe.key()[:16]}"
    if recipe.tokenizer and not is_prepared(out):
        # The same may have been made when this tokenizer was still to be learnt.
        out = next((made for made in sorted(root.glob(f"{name}-{label}-*")) if holds(made, recipe.key())), out)
    return out


def _look_up(
    options: PrepareOptions,
    tokenizer: Tokenizer | None,
    corpus: Corpus | None = None,
    report: Progress = ignore_progress,
) -> _Recipe:
    corpus = corpus or open_corpus(options.corpus, options.text_field, report)
    if tokenizer is None:
        tokenizer = _existing_tokenizer(options)
    return _Recipe(options, corpus, corpus.state(), tokenizer, corpus.fingerprint())


def _existing_tokenizer(options: PrepareOptions) -> Tokenizer | None:
    """The tokenizer that the options name, unless it is to be made from the corpus."""
    return None if options.tokenizer in ("char", "bpe") else find_tokenizer(options.tokenizer)


def _make(recipe: _Recipe, out: Path, report: Progress, *, overwrite: bool) -> Prepared:
    if not holds(out, recipe.key()):
        check_folder(out)
        out.mkdir(parents=True, exist_ok=True)
        with lock(out, report):
            write_mark(out, "prepared text")  # first of all: stopped at any moment, the folder is known
            if not holds(out, recipe.key()):  # unless another process made it while this one waited
                if not overwrite:  # asked now: another process may have made something else here meanwhile
                    refuse_other(out, recipe.key())
                _write_shards(recipe, out, report)
    return _accepted(recipe.options, replace(open_prepared(out), files=recipe.corpus.description), recipe.tokenizer)


def _accepted(options: PrepareOptions, prepared: Prepared, tokenizer: Tokenizer | None) -> Prepared:
    """`prepared` with what is to be said of it; DataError where its tokenizer loses what it may not."""
    refuse_loss(options, prepared.loss)
    notes = list(tokenizer.notes) if tokenizer else []
    if prepared.loss:
        notes.append(f"the tokenizer loses {prepared.loss}: {prepared.loss.first}; bits per byte do not compare")
    return replace(prepared, notes=tuple(notes))


def _write_shards(recipe: _Recipe, out: Path, report: Progress) -> None:
    options, key = recipe.options, recipe.key()
    work = work_folder(out, key)
    with WorkerPool(options.workers) as pool:
        job = Job(recipe.corpus, work, pool, report)
        tokenizer = recipe.tokenizer
        with_characters = tokenizer is None and options.tokenizer == "char"
        survey = survey_corpus(job, options.val_fraction, with_characters)
        measure = partial(measure_documents, job, survey)
        if recipe.whole:
            rule = SplitRule("documents", 0)
        else:
            rule = choose_rule(options.split, options.val_fraction, survey, options.corpus, measure)
        if tokenizer is None and options.tokenizer == "char":
            characters = "".join(piece.characters for piece in survey.pieces)
            tokenizer = CharTokenizer(characters, end_of_text=survey.n_documents > 1, unknown=options.unknown)
        elif tokenizer is None:
            tokenizer = learn_vocabulary(job, options.vocab_size, survey, rule)
        allowed = options.allow_lossy_tokenizer
        try:
            encoded = encode_corpus(job, survey, rule, tokenizer, out, allow_loss=allowed)
        except LossError as error:  # what is done is kept: with allow_lossy_tokenizer=true it is gone on with
            refuse_loss(options, error.loss)
            raise
    if recipe.corpus.state() != recipe.state:
        shutil.rmtree(work)
        raise DataError(f"corpus {options.corpus}: changed while it was prepared; run again")
    for side in SIDES[: 1 if recipe.whole else 2]:
        n_tokens = encoded.n_tokens[side]
        if n_tokens < 2:
            part = "" if recipe.whole else f" for the {side} split (val_fraction={options.val_fraction})"
            raise DataError(f"corpus {options.corpus}: too short: {n_tokens} token(s){part}, not 2")
    meta = {
        # The second key finds these shards again when the tokenizer is given, not learnt: to validate, to go on.
        "keys": [key, recipe.key(tokenizer.fingerprint)],
        "corpus": options.corpus,
        "tokenizer": options.tokenizer,
        "vocab_size": options.vocab_size if options.tokenizer == "bpe" else tokenizer.vocab_size,
        "val_fraction": options.val_fraction,
        "split": options.split,
        "split_by": "whole" if recipe.whole else rule.kind,
        "unknown": options.unknown,
    }
    write_index(out, tokenizer, encoded, meta)
    remove_others(out)


@contextmanager
def _advising_removal(folder: Path) -> Iterator[None]:
    """Advise to remove a folder of the cache that is damaged: it can be made again."""
    try:
        yield
    except DataError as error:
        if not is_prepared(folder):
            raise
        raise DataError(f"{error}; remove {folder} to have it prepared again") from None


@contextmanager
def _one_line_errors(folder: Path) -> Iterator[None]:
    """A full disk, a folder that may not be written, a file that vanished: one line that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {error.strerror or error}, while preparing into {folder}"
        ) from None

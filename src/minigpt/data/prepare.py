"""Documents -> shards: in bounded memory, by several processes, restartable, and done once for each content."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from filelock import FileLock, Timeout

from minigpt.data.cache import cache_root
from minigpt.data.corpus import Corpus, open_corpus
from minigpt.data.encoding import (
    Job,
    LossError,
    encode_corpus,
    encode_fragments,
    learn_vocabulary,
    measure_documents,
    survey_corpus,
)
from minigpt.data.named_corpora import needs_network
from minigpt.data.options import PrepareOptions
from minigpt.data.pieces import cut_text
from minigpt.data.prepared import (
    INDEX_NAME,
    Prepared,
    TokenSplit,
    is_prepared,
    open_as_corpus,
    open_prepared,
    read_index,
    write_index,
)
from minigpt.data.processes import WorkerPool
from minigpt.data.progress import Progress, ignore_progress, reporting
from minigpt.data.round_trip import Loss, RoundTrip, total_loss
from minigpt.data.sources import read_span
from minigpt.data.splitting import SIDES, SplitRule, choose_rule
from minigpt.data.tokenizers import TOKENIZER_NAMES, CharTokenizer, Tokenizer, find_tokenizer
from minigpt.errors import DataError
from minigpt.system.files import home_path, remove_leftovers, written_as
from minigpt.system.marks import MARK, has_mark, write_mark

__all__ = ["PrepareOptions", "Prepared", "TokenSplit", "open_prepared", "prepare", "prepare_cached"]

_TRIED_BYTES = 1 << 20
_RECIPE = 1
"""Part of every key: raised when the same options come to give other tokens."""
_WORK = 3
"""Part of the name of unfinished work: raised when an earlier version's cannot be gone on with."""


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
        return out if _holds(out, recipe.key()) else None


def _place(recipe: _Recipe, root: Path) -> Path:
    """The folder of the cache for a recipe, by its content."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", recipe.corpus.name)[:60]
    label = recipe.tokenizer.kind if recipe.tokenizer else recipe.options.tokenizer
    out = root / f"{name}-{label}-{recipe.key()[:16]}"
    if recipe.tokenizer and not is_prepared(out):
        # The same may have been made when this tokenizer was still to be learnt.
        out = next((made for made in sorted(root.glob(f"{name}-{label}-*")) if _holds(made, recipe.key())), out)
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
    if not _holds(out, recipe.key()):
        _check_folder(out)
        out.mkdir(parents=True, exist_ok=True)
        with _lock(out, report):
            write_mark(out, "prepared text")  # first of all: stopped at any moment, the folder is known
            if not _holds(out, recipe.key()):  # unless another process made it while this one waited
                if not overwrite:  # asked now: another process may have made something else here meanwhile
                    _refuse_other(recipe, out)
                _write_shards(recipe, out, report)
    return _accepted(recipe.options, replace(open_prepared(out), files=recipe.corpus.description), recipe.tokenizer)


def _accepted(options: PrepareOptions, prepared: Prepared, tokenizer: Tokenizer | None) -> Prepared:
    """`prepared` with what is to be said of it; DataError where its tokenizer loses what it may not."""
    refuse_loss(options, prepared.loss)
    notes = list(tokenizer.notes) if tokenizer else []
    if prepared.loss:
        notes.append(f"the tokenizer loses {prepared.loss}: {prepared.loss.first}; bits per byte do not compare")
    return replace(prepared, notes=tuple(notes))


def refuse_loss(options: PrepareOptions, loss: Loss | None) -> None:
    """Raise DataError where a text loses something in its tokenizer, unless that is allowed."""
    if loss and not options.allow_lossy_tokenizer:
        raise DataError(
            f"tokenizer={options.tokenizer} does not give the text of {options.corpus} back: {loss.first}; of the "
            f"{loss.of_bytes:,} bytes read it loses {loss}, so bits per byte would compare with no other tokenizer's; "
            "allow_lossy_tokenizer=true trains all the same"
        )


def check_round_trip(options: PrepareOptions, tokenizer: Tokenizer | None = None, corpus: Corpus | None = None) -> None:
    """Raise DataError where a tokenizer that exists does not give back the first MB of the corpus, unless allowed.

    A beginning says soon what preparing, which tries all of the text, would say late. `tokenizer` and `corpus` are used
    instead of those that the options name.
    """
    if options.allow_lossy_tokenizer or needs_network(options.corpus):
        return
    if is_prepared(home_path(options.corpus)) or (tokenizer is None and options.tokenizer in TOKENIZER_NAMES):
        return
    tokenizer = tokenizer or find_tokenizer(options.tokenizer)
    trial, losses, document = RoundTrip(tokenizer, starts_are_seen=True), [], 0
    left = _TRIED_BYTES
    corpus = corpus or open_corpus(options.corpus, options.text_field)
    for span in chain.from_iterable(corpus.pieces()):
        for fragment in read_span(span):
            text = fragment.text if fragment.n_bytes <= left else next(cut_text(fragment.text, max(2, left)))
            part = fragment._replace(text=text)
            document += fragment.begins
            losses.append(trial.try_on(part, encode_fragments([part], tokenizer)[0], document)[0])
            left -= fragment.n_bytes
            if left <= 0:
                break
        if left <= 0:
            break
    refuse_loss(options, total_loss(losses))


@contextmanager
def _lock(out: Path, report: Progress) -> Iterator[None]:
    """One process at a time prepares a folder; the system takes the lock back from one that is killed."""
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(timeout=0.5)
    except Timeout:
        report("waiting for another process", 0, 0)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write_shards(recipe: _Recipe, out: Path, report: Progress) -> None:
    options, key = recipe.options, recipe.key()
    work = _work_folder(out, key)
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
    _remove_others(out)


def _holds(folder: Path, key: str) -> bool:
    """Whether the result of `key` is in `folder`, as this version writes it. What cannot be read is made anew."""
    try:
        index = read_index(folder) if is_prepared(folder) else None
        return index is not None and key in index["meta"]["keys"] and all(index[side]["text_sha256"] for side in SIDES)
    except (DataError, KeyError, TypeError):
        return False


def _check_folder(out: Path) -> None:
    """A folder with something else in it is not ours to write into."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file, where a folder for the shards must be")
    # One look at the names, then at the mark: another process may begin or end its preparation right now.
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    strange = sorted(name for name in names if written_as(name) not in {".lock", MARK})
    if strange and not has_mark(out, "prepared text") and not is_prepared(out) and not _is_begun(out, strange):
        raise DataError(f"{out}: holds other files ({strange[0]}, for one); give a new or an empty folder")


def _is_begun(out: Path, names: Sequence[str]) -> bool:
    """Whether a preparation of before there were marks was stopped in `out`: nothing else lies there."""
    pieces = [entry.name for entry in (out / ".work").glob("*")]
    others = {written_as(name) for name in names} - {".work"}
    ours = all(map(_WORK_NAME.fullmatch, pieces)) and all(map(_is_ours, others))
    return bool(pieces) and ours and INDEX_NAME not in others


def _is_ours(name: str) -> bool:
    """Whether a preparation writes files of that name."""
    return _OURS.fullmatch(name) is not None


_OURS = re.compile(r"index\.json|tokenizer-[0-9a-f]{16}\.json|(train|val)-[0-9a-f]{8}-\d{5}\.bin|\.minigpt|\.lock")
_WORK_NAME = re.compile(r"[0-9a-f]{16}(-\d+)?")


def _refuse_other(recipe: _Recipe, out: Path) -> None:
    """Raise DataError for a folder with another prepared text; one that is damaged or was only begun is none."""
    key = recipe.key()
    try:
        meta = read_index(out).get("meta") if is_prepared(out) else None
    except DataError:
        return
    if isinstance(meta, dict) and key not in meta.get("keys", ()):
        what = ", ".join(f"{name}={meta.get(name)}" for name in ("corpus", "tokenizer", "vocab_size"))
        raise DataError(f"{out}: holds another prepared text ({what}); --overwrite replaces it")


def _work_folder(out: Path, key: str) -> Path:
    """Where finished pieces wait. What was begun for another content cannot be gone on with."""
    work = out / ".work" / f"{key[:16]}-{_WORK}"
    for other in (out / ".work").glob("*"):
        if other != work and _WORK_NAME.fullmatch(other.name):
            shutil.rmtree(other)
    work.mkdir(parents=True, exist_ok=True)
    remove_leftovers(work, lambda _: True)  # all that is in there is ours
    remove_leftovers(out, _is_ours)
    return work


def _remove_others(out: Path) -> None:
    """Remove what the index does not name: the work that is done, and shards of an earlier content."""
    index = read_index(out)
    named = {index["tokenizer"], *(name for side in SIDES for name in index[side]["shards"])}
    for path in [*out.glob("*.bin"), *out.glob("tokenizer-*.json")]:
        if path.name not in named and _is_ours(path.name):
            path.unlink()
    for work in (out / ".work").glob("*"):
        if _WORK_NAME.fullmatch(work.name):
            shutil.rmtree(work, ignore_errors=True)
    with suppress(OSError):  # something else lies in it
        (out / ".work").rmdir()


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

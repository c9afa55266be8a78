"""Documents -> shards: in bounded memory, by several processes, restartable, and done once for each content."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from minigpt.errors import DataError
from minigpt.files import remove_leftovers
from minigpt.text.cache import cache_root
from minigpt.text.corpus import Corpus, open_corpus
from minigpt.text.encoding import Job, encode_corpus, learn_vocabulary, summarise_corpus
from minigpt.text.options import PrepareOptions
from minigpt.text.prepared import (
    SPLITS,
    Prepared,
    TokenSplit,
    is_prepared,
    open_prepared,
    read_index,
    write_index,
)
from minigpt.text.processes import WorkerPool
from minigpt.text.progress import Progress, reporting
from minigpt.text.shards import read_header
from minigpt.text.splitting import choose_rule
from minigpt.text.tokenizers import CharTokenizer, Tokenizer, find_tokenizer

__all__ = ["PrepareOptions", "Prepared", "TokenSplit", "open_prepared", "prepare", "prepare_cached"]

_RECIPE = 1
"""Part of every cache key: raised when the same options come to give other tokens."""


@dataclass(frozen=True)
class _Recipe:
    """Options, looked up: the corpus as it is now, and the tokenizer if it need not be made."""

    options: PrepareOptions
    corpus: Corpus
    state: list[tuple[int, int]]
    tokenizer: Tokenizer | None
    key: str
    """sha256 (hex) of all that decides the result."""


def prepare(
    options: PrepareOptions, out: Path, *, progress: Progress | bool = False, tokenizer: Tokenizer | None = None
) -> Prepared:
    """Write the corpus as shards into the folder `out`, and open them.

    If `out` holds the result already, it is opened; if it holds another, that is replaced once the new one is whole.
    A run that was stopped, however hard, is taken up at the piece where it stopped. `tokenizer` is used instead of
    the one that the options name. DataError for whatever is wrong with the corpus, the tokenizer or the folder.
    """
    with _one_line_errors(out):
        return _make(_recipe(options, tokenizer), out, progress)


def prepare_cached(
    options: PrepareOptions,
    *,
    progress: Progress | bool = False,
    tokenizer: Tokenizer | None = None,
    cache: Path | None = None,
) -> Prepared:
    """As `prepare`, into a folder of the cache that is named after the content: the second time it is only opened.

    An edited text has another name, so it is never mixed up with what it was. A folder that `minigpt prepare`
    wrote may stand for the corpus; options that contradict it are a DataError.
    """
    folder = Path(options.corpus).expanduser()
    if is_prepared(folder):
        return _open_as_corpus(options, folder, tokenizer)
    root = cache if cache is not None else cache_root()
    with _one_line_errors(root):
        recipe = _recipe(options, tokenizer)
        label = recipe.tokenizer.kind if recipe.tokenizer else options.tokenizer
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", recipe.corpus.name)[:60]
        return _make(recipe, root / "data" / f"{name}-{label}-{recipe.key[:16]}", progress)


def _recipe(options: PrepareOptions, tokenizer: Tokenizer | None) -> _Recipe:
    corpus = open_corpus(options.corpus, options.text_field)
    state = corpus.state()
    if tokenizer is None and options.tokenizer not in ("char", "bpe"):
        tokenizer = find_tokenizer(options.tokenizer)
    if tokenizer is not None:
        tokenised_by = tokenizer.fingerprint
    else:
        tokenised_by = f"bpe {options.vocab_size}" if options.tokenizer == "bpe" else f"char {options.unknown}"
    fields = [_RECIPE, corpus.fingerprint(), tokenised_by, options.val_fraction, options.split]
    return _Recipe(options, corpus, state, tokenizer, hashlib.sha256(json.dumps(fields).encode()).hexdigest())


def _make(recipe: _Recipe, out: Path, progress: Progress | bool) -> Prepared:
    if _holds(out, recipe.key):
        return open_prepared(out)
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / ".lock"):
        if not _holds(out, recipe.key):  # unless another process made it while this one waited
            _make_locked(recipe, out, progress)
    return open_prepared(out)


def _make_locked(recipe: _Recipe, out: Path, progress: Progress | bool) -> None:
    options, work = recipe.options, out / ".work" / recipe.key[:16]
    for other in (out / ".work").glob("*"):
        if other != work:
            shutil.rmtree(other)  # of another content: it cannot be gone on with
    work.mkdir(parents=True, exist_ok=True)
    remove_leftovers(work)
    remove_leftovers(out)
    with reporting(progress) as report, WorkerPool(options.workers) as pool:
        job = Job(recipe.corpus, work, pool, report)
        tokenizer = recipe.tokenizer
        summaries = summarise_corpus(job, with_characters=tokenizer is None and options.tokenizer == "char")
        rule = choose_rule(options.split, options.val_fraction, summaries, options.corpus)
        if tokenizer is None and options.tokenizer == "char":
            several = sum(summary.n_documents for summary in summaries) > 1
            characters = "".join(summary.characters for summary in summaries)
            tokenizer = CharTokenizer(characters, end_of_text=several, unknown=options.unknown)
        elif tokenizer is None:
            tokenizer = learn_vocabulary(job, options.vocab_size, summaries, rule)
        shards, n_bytes = encode_corpus(job, summaries, rule, tokenizer, out, recipe.key[:8])
    if recipe.corpus.state() != recipe.state:
        shutil.rmtree(work)
        raise DataError(f"corpus {options.corpus}: changed while it was prepared; run again")
    _check_length(options, shards)
    meta = {
        "key": recipe.key,
        "corpus": options.corpus,
        "tokenizer": options.tokenizer,
        "vocab_size": options.vocab_size if options.tokenizer == "bpe" else tokenizer.vocab_size,
        "val_fraction": options.val_fraction,
        "split": options.split,
        "unknown": options.unknown,
    }
    write_index(out, tokenizer, shards, n_bytes, meta)
    _remove_others(out)


def _holds(folder: Path, key: str) -> bool:
    return is_prepared(folder) and read_index(folder).get("meta", {}).get("key") == key


def _check_folder(out: Path) -> None:
    """A folder with something else in it is not ours to write into."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file, where a folder for the shards must be")
    if out.is_dir() and not is_prepared(out) and not (out / ".work").exists():
        strange = sorted(entry.name for entry in out.iterdir() if entry.name != ".lock")
        if strange:
            raise DataError(f"{out}: holds other files ({strange[0]}, for one); give an empty or a new folder")


def _check_length(options: PrepareOptions, shards: dict[str, list[Path]]) -> None:
    for split, paths in shards.items():
        n_tokens = sum(read_header(path).n_tokens for path in paths)
        if n_tokens < 2:
            raise DataError(
                f"corpus {options.corpus}: too short: {n_tokens} token(s) for the {split} split "
                f"(val_fraction={options.val_fraction}), which needs 2 or more"
            )


def _remove_others(out: Path) -> None:
    """Remove what the index does not name: the work that is done, and shards of an earlier content."""
    index = read_index(out)
    named = {index["tokenizer"], *(name for split in SPLITS for name in index[split]["shards"])}
    for path in [*out.glob("*.bin"), *out.glob("tokenizer-*.json")]:
        if path.name not in named:
            path.unlink()
    shutil.rmtree(out / ".work", ignore_errors=True)


def _open_as_corpus(options: PrepareOptions, folder: Path, tokenizer: Tokenizer | None) -> Prepared:
    """A prepared folder in place of a corpus. What the options ask for must be what the folder was made with."""
    prepared = open_prepared(folder)
    if tokenizer is None and options.tokenizer not in ("char", "bpe"):
        tokenizer = find_tokenizer(options.tokenizer)
    if tokenizer is not None and tokenizer.fingerprint != prepared.tokenizer.fingerprint:
        found, wanted = prepared.tokenizer, tokenizer
        raise DataError(
            f"{folder}: prepared with another tokenizer: {found.kind} of {found.vocab_size} ids "
            f"({found.fingerprint[:16]}), expected {wanted.kind} of {wanted.vocab_size} ({wanted.fingerprint[:16]})"
        )
    asked: dict[str, Any] = {"val_fraction": options.val_fraction, "split": options.split}
    if tokenizer is None:
        asked["tokenizer"] = options.tokenizer
        asked |= {"vocab_size": options.vocab_size} if options.tokenizer == "bpe" else {"unknown": options.unknown}
    wrong = [name for name, value in asked.items() if prepared.meta.get(name) != value]
    if wrong:
        differences = ", ".join(f"{name}={prepared.meta.get(name)} (asked for: {asked[name]})" for name in wrong)
        raise DataError(f"{folder}: prepared with {differences}; ask for the same, or prepare the corpus again")
    return prepared


@contextmanager
def _one_line_errors(folder: Path) -> Iterator[None]:
    """A full disk, a folder that may not be written, a file that vanished: one line that names it."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise DataError(f"{where}: {error.strerror or error} (while preparing into {folder})") from None

"""Which runs have the same data, told by content, and how a reader is told of it where words do not tell them apart."""

from collections.abc import Sequence
from typing import Any

from minigpt.data.named_corpora import corpus_name
from minigpt.runs.records import RunRecord, flat_settings

CORPUS, TOKENIZER = "data.corpus", "data.tokenizer"
DATA_KEYS = (
    *(CORPUS, "data.text_field", TOKENIZER, "data.vocab_size", "data.unknown", "data.val_fraction", "data.split"),
)
"""Settings that decide the tokens and nothing else: where the content of these is known, it counts and they do not."""
_DIGITS = 8


def content_of(record: RunRecord) -> str:
    """The tokens that a run has seen, one session after the other; empty: not recorded for all of it."""
    seen = [session.get("data_fingerprint") for session in record.sessions]
    return " ".join(dict.fromkeys(map(str, seen))) if seen and all(seen) else ""


def told_data(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Words for the data of each run, by key of the config: equal where the content is, and only there.

    A file that is spelt in several ways is called as its first run calls it. Where several contents have the same
    words, the corpus or the tokenizer has the beginning of its hash behind its name.
    """
    contents = [content_of(record) for record in records]
    made: list[dict[str, Any]] = []
    for position, (record, content) in enumerate(zip(records, contents, strict=True)):
        first = contents.index(content) if content else position
        made.append(made[first] if first < position else _words(record))
    told = []
    for record, words, content in zip(records, made, contents, strict=True):
        rivals = [
            other
            for other, others_words, others_content in zip(records, made, contents, strict=True)
            if others_words == words and others_content != content
        ]
        told.append(words | _told_apart(words, record, rivals) if rivals else words)
    return told


def _corpus_name(corpus: str, record: RunRecord) -> str:
    """The name of a corpus, and of `python` whose library it was for this run."""
    versions = record.sessions[-1].get("versions") if record.sessions else None
    version = versions.get("python") if isinstance(versions, dict) else None
    return corpus_name(corpus, version) if isinstance(version, str) else corpus


def _words(record: RunRecord) -> dict[str, Any]:
    flat = flat_settings(record.config)
    return {key: flat[key] for key in DATA_KEYS if key in flat}


def _told_apart(words: dict[str, Any], record: RunRecord, rivals: Sequence[RunRecord]) -> dict[str, Any]:
    """What to say instead of some of `words`, which those of `rivals`, of other content, equal."""
    corpus = str(words.get(CORPUS))
    name, ours = _corpus_name(corpus, record), record.identity
    if name not in {_corpus_name(corpus, rival) for rival in rivals}:
        return {CORPUS: name}
    if not content_of(record):
        return {CORPUS: f"{name} (text not recorded)"}
    others = [each.identity for each in rivals]
    for what, hash_, alike in (
        ("text", ours.val, [ours.same_held_out(other) for other in others]),
        ("training text", ours.train, [ours.same_training(other) for other in others]),
    ):
        if hash_ and True not in alike:
            return {CORPUS: f"{name} ({what} {hash_[:_DIGITS]})"}
    if record.tokenizer_fingerprint not in {each.tokenizer_fingerprint for each in rivals}:
        return {TOKENIZER: f"{words.get(TOKENIZER)} ({record.tokenizer_fingerprint[:_DIGITS]})"}
    return {CORPUS: f"{name} (tokens {ours.fingerprint[:_DIGITS]})"}

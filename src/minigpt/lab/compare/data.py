"""Whether the losses of runs compare at all: which runs have the same data, and how it is described."""

import itertools
from collections.abc import Sequence
from typing import Any

from minigpt.data.named_corpora import corpus_name
from minigpt.lab.compare.result import Measure
from minigpt.runs.records import RunRecord, flat_settings

CORPUS, TOKENIZER = "data.corpus", "data.tokenizer"
DATA_KEYS = (
    *(CORPUS, "data.text_field", TOKENIZER, "data.vocab_size", "data.unknown", "data.val_fraction", "data.split"),
)
"""Settings that decide the tokens and nothing else: where the content of the tokens is known, that is compared."""
_DIGITS = 8


def data_content(record: RunRecord) -> str:
    """The hashes of the tokens that a run has seen, session by session; empty if one of them is not recorded."""
    seen = [session.get("data_fingerprint") for session in record.sessions]
    return " ".join(dict.fromkeys(map(str, seen))) if seen and all(seen) else ""


def describe_data(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Describe the data of each run by keys of its config: two descriptions are equal if and only if the data is.

    A file that has several paths gets that of its first run. Where different contents have the same settings, the
    beginning of a hash is appended to the name of the corpus or the tokenizer.
    """
    contents = [data_content(record) for record in records]
    settings: list[dict[str, Any]] = []
    for position, (record, content) in enumerate(zip(records, contents, strict=True)):
        first = contents.index(content) if content else position
        settings.append(settings[first] if first < position else _data_settings(record))
    described = []
    for record, own, content in zip(records, settings, contents, strict=True):
        rivals = [
            other
            for other, others_own, others_content in zip(records, settings, contents, strict=True)
            if others_own == own and others_content != content
        ]
        described.append(own | _distinguishing_setting(own, record, rivals) if rivals else own)
    return described


def _corpus_name(corpus: str, record: RunRecord) -> str:
    """The name of a corpus, with the version of Python where it is `python`, the standard library."""
    versions = record.sessions[-1].get("versions") if record.sessions else None
    version = versions.get("python") if isinstance(versions, dict) else None
    return corpus_name(corpus, version) if isinstance(version, str) else corpus


def _data_settings(record: RunRecord) -> dict[str, Any]:
    flat = flat_settings(record.config)
    return {key: flat[key] for key in DATA_KEYS if key in flat}


def _distinguishing_setting(settings: dict[str, Any], record: RunRecord, rivals: Sequence[RunRecord]) -> dict[str, Any]:
    """The setting to replace in `settings`, which `rivals` share though their content differs."""
    corpus = str(settings.get(CORPUS))
    name, ours = _corpus_name(corpus, record), record.identity
    if name not in {_corpus_name(corpus, rival) for rival in rivals}:
        return {CORPUS: name}
    if not data_content(record):
        return {CORPUS: f"{name} (text not recorded)"}
    others = [each.identity for each in rivals]
    for what, hash_, alike in (
        ("text", ours.val, [ours.same_held_out(other) for other in others]),
        ("training text", ours.train, [ours.same_training(other) for other in others]),
    ):
        if hash_ and True not in alike:
            return {CORPUS: f"{name} ({what} {hash_[:_DIGITS]})"}
    if record.tokenizer_fingerprint not in {each.tokenizer_fingerprint for each in rivals}:
        return {TOKENIZER: f"{settings.get(TOKENIZER)} ({record.tokenizer_fingerprint[:_DIGITS]})"}
    return {CORPUS: f"{name} (tokens {ours.fingerprint[:_DIGITS]})"}


_SHOWN = 5


def choose_measure(records: Sequence[RunRecord]) -> tuple[Measure, list[str]]:
    """Choose loss, or bits per byte where the losses of the runs mean different things; return it with its notes."""
    notes = []
    one_tokenizer = _have_one_tokenizer(records)
    pairs = list(itertools.combinations(dict.fromkeys(record.identity for record in records), 2))
    other_texts = any(one.same_held_out(other) is False for one, other in pairs)
    measure: Measure = "loss" if one_tokenizer and not other_texts else "bits_per_byte"
    if not one_tokenizer:
        notes.append(
            "The runs have different tokenizers: losses per token do not compare, so bits per byte are compared."
        )
    lossy = {record.name: record.loses for record in records if record.loses}
    if lossy and not one_tokenizer:
        losses = "; ".join(f"that of {name} loses {loses}" for name, loses in list(lossy.items())[:_SHOWN])
        notes.append(f"Not every tokenizer is lossless: {losses}{'; ...' if len(lossy) > _SHOWN else ''}.")
    if other_texts:
        corpora = ", ".join(dict.fromkeys(str(data.get(CORPUS)) for data in describe_data(records)))
        notes.append(
            f"The runs are validated on different texts ({corpora}): compared by bits per byte, and between runs on "
            "different texts even that does not say which model is better."
        )
    unknown = [record.name for record in records if not record.identity.val]
    if unknown and not _all_alike(records):
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        notes.append(
            f"It is not recorded which text {', '.join(unknown[:_SHOWN])}{more} "
            f"{'was' if len(unknown) == 1 else 'were'} validated on: there is no verdict between such runs."
        )
    read = sorted({_validated_tokens(record) for record in records})
    if len(read) > 1:
        amounts = " and ".join(f"{count:,}" for count in read)
        notes.append(
            f"Validations read different amounts of text ({amounts} tokens: run.eval_batches x data.batch_size x "
            "model.block_size). minigpt validate reads the whole split."
        )
    elif not one_tokenizer:
        notes.append("Validations read equally many tokens, but not the same stretch of text.")
    return measure, notes


def _have_one_tokenizer(records: Sequence[RunRecord]) -> bool:
    """Whether all runs are known to have the same tokenizer; a missing fingerprint says nothing."""
    tokenizers = {record.tokenizer_fingerprint for record in records}
    tokens = {record.data_fingerprint for record in records}
    return any(len(each) == 1 and "" not in each for each in (tokenizers, tokens))


def _all_alike(records: Sequence[RunRecord]) -> bool:
    """Whether all runs are known to be validated on the same text."""
    return all(record.identity.same_held_out(records[0].identity) for record in records)


def _validated_tokens(record: RunRecord) -> int:
    config = record.config
    windows = int(config["run"]["eval_batches"]) * int(config["data"]["batch_size"])
    return windows * int(config["model"]["block_size"])

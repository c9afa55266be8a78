"""Which losses compare at all: the same text, the same tokens, the same amount of it."""

from collections.abc import Sequence

from minigpt.records import RunRecord, flat_settings
from minigpt.study.comparison.result import Measure

TEXT_KEYS = ("data.corpus", "data.val_fraction", "data.split", "data.text_field")
"""What says which text is held out, whatever the tokenizer."""


def text_of(records: Sequence[RunRecord]) -> list[str]:
    """Which text each run is validated on: runs with equal words here compare.

    The fingerprint of the data says it for one tokenizer. Over several, the config's words for the text must do, unless
    one tokenizer shows that the text behind these words has changed.
    """
    tokenizers = {record.tokenizer_fingerprint for record in records}
    if len(tokenizers) == 1:
        return [record.data_fingerprint or _words(record) for record in records]
    contents: dict[tuple[str, str], set[str]] = {}
    for record in records:
        contents.setdefault((_words(record), record.tokenizer_fingerprint), set()).add(record.data_fingerprint)
    changed = {words for (words, _), fingerprints in contents.items() if len(fingerprints) > 1}
    return [
        f"{_words(record)} {record.data_fingerprint}" if _words(record) in changed else _words(record)
        for record in records
    ]


def choose_measure(records: Sequence[RunRecord], texts: Sequence[str]) -> tuple[Measure, list[str]]:
    """Loss, or bits per byte where the runs' losses mean different things; and what is to be said about it."""
    notes = []
    one_tokenizer = len({record.tokenizer_fingerprint for record in records}) == 1
    one_text = len(set(texts)) == 1
    measure: Measure = "loss" if one_tokenizer and one_text else "bits_per_byte"
    if not one_tokenizer:
        notes.append(
            "The runs have different tokenizers: losses per token do not compare, so bits per byte are compared."
        )
    if not one_text:
        corpora = ", ".join(dict.fromkeys(str(record.config["data"].get("corpus")) for record in records))
        notes.append(
            f"The runs are validated on different texts ({corpora}): compared by bits per byte, and between runs on "
            "different texts even that does not say which model is better."
        )
    read = sorted({_validated_tokens(record) for record in records})
    if len(read) > 1:
        amounts = " and ".join(f"{count:,}" for count in read)
        notes.append(
            f"Validations read different amounts of text ({amounts} tokens: run.eval_batches x data.batch_size x "
            "model.block_size). minigpt validate reads the whole split."
        )
    elif not one_tokenizer:
        notes.append("Validations read as many tokens of each, which are not the same stretch of text.")
    return measure, notes


def _words(record: RunRecord) -> str:
    flat = flat_settings(record.config)
    return " ".join(str(flat.get(key)) for key in TEXT_KEYS)


def _validated_tokens(record: RunRecord) -> int:
    config = record.config
    windows = int(config["run"]["eval_batches"]) * int(config["data"]["batch_size"])
    return windows * int(config["model"]["block_size"])

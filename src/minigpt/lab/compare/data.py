"""Which losses compare at all: the same text, the same tokens, the same amount of it."""

import itertools
from collections.abc import Sequence

from minigpt.lab.compare.contents import CORPUS, told_data
from minigpt.lab.compare.result import Measure
from minigpt.runs.records import RunRecord

_SHOWN = 5


def choose_measure(records: Sequence[RunRecord]) -> tuple[Measure, list[str]]:
    """Loss, or bits per byte where the runs' losses mean different things; and what is to be said about it."""
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
        told = "; ".join(f"that of {name} loses {loses}" for name, loses in list(lossy.items())[:_SHOWN])
        notes.append(f"Not every tokenizer gives its text back: {told}{'; ...' if len(lossy) > _SHOWN else ''}.")
    if other_texts:
        corpora = ", ".join(dict.fromkeys(str(words.get(CORPUS)) for words in told_data(records)))
        notes.append(
            f"The runs are validated on different texts ({corpora}): compared by bits per byte, and between runs on "
            "different texts even that does not say which model is better."
        )
    unknown = [record.name for record in records if not record.identity.val]
    if unknown and not _all_alike(records):
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        notes.append(
            f"It is not recorded which text {', '.join(unknown[:_SHOWN])}{more} "
            f"{'was' if len(unknown) == 1 else 'were'} validated on: there is no verdict between runs of which it is "
            "not known."
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


def _have_one_tokenizer(records: Sequence[RunRecord]) -> bool:
    """Whether all are known to cut their text alike: a file that is not there says nothing."""
    tokenizers = {record.tokenizer_fingerprint for record in records}
    tokens = {record.data_fingerprint for record in records}
    return any(len(each) == 1 and "" not in each for each in (tokenizers, tokens))


def _all_alike(records: Sequence[RunRecord]) -> bool:
    """Whether all are known to be validated on one text."""
    return all(record.identity.same_held_out(records[0].identity) for record in records)


def _validated_tokens(record: RunRecord) -> int:
    config = record.config
    windows = int(config["run"]["eval_batches"]) * int(config["data"]["batch_size"])
    return windows * int(config["model"]["block_size"])

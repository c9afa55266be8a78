"""Checks of a corpus and its tokenizer before anything is prepared."""

from itertools import chain

from minigpt.data.corpus import Corpus, open_corpus
from minigpt.data.encoding import encode_fragments
from minigpt.data.named_corpora import needs_network
from minigpt.data.options import PrepareOptions
from minigpt.data.pieces import cut_text
from minigpt.data.prepare import prepare_cached
from minigpt.data.prepared import is_prepared
from minigpt.data.round_trip import RoundTrip, refuse_loss, total_loss
from minigpt.data.sources import read_span
from minigpt.data.tokenizers import TOKENIZER_NAMES, Tokenizer, find_tokenizer
from minigpt.system.files import home_path

_TRIED_BYTES = 1 << 20


def check_text(options: PrepareOptions, tokenizer: Tokenizer | None = None) -> None:
    """Raise DataError for what `fit` would refuse of a corpus in its tokens, as far as that is known without preparing.

    A prepared folder is checked whole, of a text the first MB. `tokenizer` is used instead of the one that the options
    name.
    """
    if is_prepared(home_path(options.corpus)):
        prepare_cached(options, tokenizer=tokenizer)
    else:
        check_round_trip(options, tokenizer)


def check_corpus(spec: str) -> None:
    """Raise DataError where there is no such corpus; one that would be downloaded first is believed to be there."""
    if not needs_network(spec) and not is_prepared(home_path(spec)):
        open_corpus(spec)


def check_tokenizer(name: str) -> None:
    """Raise DataError where a tokenizer's file is not there, or is none; those with a name are not looked for."""
    if name not in TOKENIZER_NAMES:
        find_tokenizer(name)


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

"""From tokens to text: the ids of a prompt, characters as their bytes come, the text to stop at."""

import codecs
from collections.abc import Iterable, Iterator

import torch

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import ConfigError, DataError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.model.gpt import GPT


def start_token(tokenizer: Tokenizer) -> int:
    """Return the token that stands for an empty prompt: the beginning of a text, else a newline, else id 0."""
    if tokenizer.special.bos is not None:
        return tokenizer.special.bos
    try:
        return (tokenizer.encode("\n") or [0])[0]  # a tokenizer of numbers has no newline
    except DataError:  # a character tokenizer of a text in one line
        return 0


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Encode `prompt` in the model's template, as one id or more: an empty prompt without one is `start_token`.

    Raises DataError for characters that it cannot encode.
    """
    special = tokenizer.special
    return [*special.before, *tokenizer.encode(prompt), *special.after] or [start_token(tokenizer)]


class StreamDecoder:
    """Decode ids one by one; the results of `push` and `finish`, joined, equal `tokenizer.decode` of all ids.

    A character of UTF-8 may be spread over several tokens. Its bytes are held back until it is complete, or cannot be
    completed any more: then each broken part is one U+FFFD, as in `decode`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Return the text that `token` completes: empty while a character is incomplete."""
        return self._decoder.decode(self._tokenizer.decode_bytes([token]))

    def finish(self) -> str:
        """Return incomplete bytes as U+FFFD, and reset the decoder."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def decode_pieces(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """Yield the text of `ids` in whole characters, up to a token that ends texts or the end of `ids`."""
    decoder = StreamDecoder(tokenizer)
    for token in ids:
        yield decoder.push(token)  # a token that ends texts may be an ordinary one with text
        if token in tokenizer.special.stop:
            break
    yield decoder.finish()


def until(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Yield `pieces` up to the first occurrence of `stop` (not empty), which may span several of them.

    Text that may be the beginning of `stop` is held back until that is known.
    """
    held = ""
    for piece in pieces:
        held += piece
        before, found, _ = held.partition(stop)
        if found:
            yield before
            return
        open_end = next(n for n in range(min(len(stop) - 1, len(held)), -1, -1) if held.endswith(stop[:n]))
        yield held[: len(held) - open_end]
        held = held[len(held) - open_end :]
    yield held


def check_stop(stop: str | None) -> None:
    """Raise ConfigError for an empty text to stop at."""
    if stop == "":
        raise ConfigError("stop='' is found everywhere: give the text to stop at, or leave it out")


def generate_text(
    model: GPT, tokenizer: Tokenizer, prompt: str, options: SamplingOptions, stop: str | None = None
) -> Iterator[str]:
    """Yield the text that continues `prompt`, without it, in pieces that are not empty.

    It ends after `max_new_tokens` tokens, at the end of a document, or before the text `stop`. Raises, at once,
    ConfigError for an empty `stop` and what `generate_tokens` refuses, DataError for a prompt that cannot be encoded.
    """
    check_stop(stop)
    ids = torch.tensor([encode_prompt(tokenizer, prompt)], device=model.token_embedding.weight.device)  # (1, T)
    tokens = generate_tokens(model, ids, options, tokenizer.vocab_size)
    pieces = decode_pieces((int(token) for token in tokens), tokenizer)
    return filter(None, pieces if stop is None else until(pieces, stop))

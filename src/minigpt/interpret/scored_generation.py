"""Sampled text with the probability that the model gave each piece of it."""

from collections import deque
from collections.abc import Iterable, Iterator

import torch

from minigpt.data.tokenizers import Tokenizer
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import check_stop, encode_prompt, generate_choices, until
from minigpt.generate.streaming import StreamDecoder
from minigpt.model.gpt import GPT

ScoredPiece = tuple[str, float]


def generate_scored(
    model: GPT, tokenizer: Tokenizer, prompt: str, options: SamplingOptions, stop: str | None = None
) -> Iterator[ScoredPiece]:
    """The text of `generate_text` in pieces, one a token, each with its probability.

    That is what the model itself gave it, at temperature 1 and before top-k and its like; tokens that make up one
    character together have the product of theirs. Raises, at once, what `generate_text` does.
    """
    check_stop(stop)
    ids = torch.tensor([encode_prompt(tokenizer, prompt)], device=model.token_embedding.weight.device)  # (1, T)
    choices = generate_choices(model, ids, options, tokenizer.vocab_size)
    chosen = ((int(token), float(logits[0].float().softmax(-1)[int(token)])) for logits, token in choices)
    pieces = _decoded(chosen, tokenizer)
    return pieces if stop is None else _until(pieces, stop)


def _decoded(chosen: Iterable[tuple[int, float]], tokenizer: Tokenizer) -> Iterator[ScoredPiece]:
    decoder, together = StreamDecoder(tokenizer), 1.0
    for token, probability in chosen:
        together *= probability
        piece = decoder.push(token)
        if piece:
            yield piece, together
            together = 1.0
        if token in tokenizer.special.stop:
            break
    rest = decoder.finish()
    if rest:
        yield rest, together


def _until(pieces: Iterable[ScoredPiece], stop: str) -> Iterator[ScoredPiece]:
    """As `until`, whose borders are not those of the pieces: a piece that is cut keeps its probability."""
    waiting: deque[ScoredPiece] = deque()

    def texts() -> Iterator[str]:
        for piece in pieces:
            waiting.append(piece)
            yield piece[0]

    for text in until(texts(), stop):
        left = len(text)
        while left:
            piece, probability = waiting.popleft()
            yield piece[:left], probability
            if len(piece) > left:
                waiting.appendleft((piece[left:], probability))
            left -= min(left, len(piece))

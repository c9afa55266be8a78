"""The probability that a model gives each token of a text, given or sampled, and the tokens it finds likeliest."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from minigpt.data.tokenizers import Tokenizer
from minigpt.data.visible import token_texts
from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import check_stop, encode_prompt, generate_choices, until
from minigpt.generate.streaming import StreamDecoder
from minigpt.interpret.coloured import marked, to_html
from minigpt.model.gpt import GPT


@dataclass(frozen=True, kw_only=True)
class ScoredToken:
    """A token of a text."""

    token: int
    text: str
    """As something to see: spaces as ␣, line ends as ↵."""
    probability: float | None
    """What the model gave it, at temperature 1, after all that stands before it; None for the first one."""
    alternatives: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens in its place, with their probabilities, the likeliest first; it may be among them."""


class ScoredText(tuple[ScoredToken, ...]):
    """A text as its scored tokens. A notebook shows it coloured, with the alternatives under the pointer."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return to_html((each.text, each.probability, each.alternatives) for each in self)

    def __str__(self) -> str:
        """Each token with its probability in percent behind it."""
        return "".join(marked(each.text, each.probability) for each in self)

    __repr__ = __str__


@torch.no_grad()
def score_tokens(model: GPT, tokenizer: Tokenizer, tokens: Sequence[int], n_alternatives: int = 5) -> ScoredText:
    """Each of `tokens` with its probability and its `n_alternatives`, by one pass of `model`, which is used as it is.

    Ids that only pad the vocabulary take no part. Raises ConfigError for more tokens than the model was trained to see.
    """
    if len(tokens) > model.config.block_size:
        raise ConfigError(f"the text has {len(tokens)} tokens, more than block_size={model.config.block_size}")
    texts = token_texts(tokenizer, tokens)
    if not texts:
        return ScoredText()
    ids = torch.tensor([tokens], device=model.token_embedding.weight.device)  # (1, T)
    chances = model(ids)[0, :-1, : tokenizer.vocab_size].float().softmax(-1).cpu()  # (T - 1, V)
    given = chances.gather(1, ids[0, 1:, None].cpu())[:, 0].tolist()
    best = chances.topk(min(n_alternatives, tokenizer.vocab_size), dim=-1)
    scored = [ScoredToken(token=tokens[0], text=texts[0], probability=None)]
    for place, probability in enumerate(given):
        names = token_texts(tokenizer, best.indices[place].tolist())
        alternatives = tuple(zip(names, best.values[place].tolist(), strict=True))
        token, text = tokens[place + 1], texts[place + 1]
        scored.append(ScoredToken(token=token, text=text, probability=probability, alternatives=alternatives))
    return ScoredText(scored)


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

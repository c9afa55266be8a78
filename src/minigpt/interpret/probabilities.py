"""The probability that a model gives each token of a text, given or sampled, and the tokens it finds likeliest."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from minigpt.data.tokenizers import Tokenizer
from minigpt.data.visible import token_texts
from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_choices
from minigpt.generate.text import StreamDecoder, check_stop, encode_prompt, until
from minigpt.interpret.coloured import marked, to_html
from minigpt.model.gpt import GPT


@dataclass(frozen=True, kw_only=True)
class ScoredToken:
    """A token of a text with its probability."""

    token: int
    text: str
    """Visible: spaces as ␣, line ends as ↵."""
    probability: float | None
    """Probability at temperature 1, given all tokens before it; None for the first token."""
    alternatives: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens in its place with their probabilities, in descending order; it may be among them."""


class ScoredText(tuple[ScoredToken, ...]):
    """A text as scored tokens. A notebook shows it coloured, with the alternatives on hovering."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return to_html((each.text, each.probability, each.alternatives) for each in self)

    def __str__(self) -> str:
        """Write each token followed by its probability in percent."""
        return "".join(marked(each.text, each.probability) for each in self)

    __repr__ = __str__


@torch.no_grad()
def score_tokens(model: GPT, tokenizer: Tokenizer, tokens: Sequence[int], n_alternatives: int = 5) -> ScoredText:
    """Return `tokens` with their probabilities and `n_alternatives` each, by one pass of `model` in its mode.

    Ids that only pad the vocabulary are left out. Raises ConfigError for more than block_size tokens.
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
"""A piece of a sampled text and its probability."""


def generate_scored(
    model: GPT, tokenizer: Tokenizer, prompt: str, options: SamplingOptions, stop: str | None = None
) -> Iterator[ScoredPiece]:
    """Yield the text of `generate_text` in pieces, one per token, each with its probability.

    Probabilities are those at temperature 1, before top-k and the other filters; tokens that make up one character have
    the product of theirs. Raises, at once, what `generate_text` does.
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
    """Yield pieces up to `stop`, as `until` does; a piece that is cut keeps its probability."""
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

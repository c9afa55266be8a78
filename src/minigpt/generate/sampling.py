"""From logits to text: the filters, the draw, the loop of prefill and decode, and the stream of characters.

Read from top to bottom: each function is one step of `logits -> probabilities -> next token -> text`.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import torch
from torch import Tensor

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import CheckpointError, ConfigError, DataError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.streaming import StreamDecoder
from minigpt.model.cache import Cache, KVCache
from minigpt.model.gpt import GPT
from minigpt.system.cpu_kernels.linear import packed

PACK_FROM = 64
"""New tokens from which it pays to copy the weights into the order that is read fastest, see `packed`."""


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Logits (..., V) whose softmax is the distribution at `temperature` > 0: below 1 sharper, above 1 flatter.

    The largest logit is subtracted first (softmax does not see it), so that no temperature, however small, overflows.
    """
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Logits (..., V) with all but the k largest at -inf; tokens tied with the k-th stay, k >= V keeps all.

    Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.1 (there k = 10).
    """
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Logits (..., V) with all but the nucleus at -inf: the fewest tokens whose probabilities reach p, 0 < p <= 1.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1. The likeliest token always
    stays; of equally likely ones the lower id goes in first.
    """
    ordered, ids = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # the probability of all likelier tokens: the nucleus ends when it reaches p
    outside = torch.empty_like(ids, dtype=torch.bool).scatter(-1, ids, before >= p)
    return logits.masked_fill(outside, -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Logits (..., V) with -inf for tokens less than p times as likely as the likeliest, 0 < p <= 1.

    Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3. A ratio of probabilities is a difference of
    logits, so no softmax is needed.
    """
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -math.inf)


def shape_logits(logits: Tensor, options: SamplingOptions) -> Tensor:
    """Logits (..., V) after temperature, top-k, top-p and min-p, in this order; their softmax is what is drawn from."""
    logits = apply_temperature(logits, options.temperature)
    if options.top_k is not None:
        logits = keep_top_k(logits, options.top_k)
    if options.top_p is not None:
        logits = keep_top_p(logits, options.top_p)
    if options.min_p is not None:
        logits = keep_min_p(logits, options.min_p)
    return logits


def choose(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One id, int64 (), drawn from softmax(logits), logits (V,), with the numbers of `generator` alone."""
    return torch.multinomial(logits.softmax(-1), num_samples=1, generator=generator)[0]


def next_tokens(logits: Tensor, options: SamplingOptions, generators: list[torch.Generator]) -> Tensor:
    """Ids (B,) on the CPU that follow, from logits (B, V): row b is drawn with `generators[b]`, or is the likeliest.

    Raises CheckpointError when a logit is not a finite number, as those of a diverged run.
    """
    # In float64 on the CPU, whatever the model's device and dtype: the draw depends on the seed and the logits alone.
    logits = logits.to("cpu", torch.float64)
    if not math.isfinite(logits.sum()):  # the sum is finite where all of them are, and takes one pass
        raise CheckpointError("the model's logits are not finite numbers: the run that wrote these weights diverged")
    if options.greedy:
        return logits.argmax(-1)
    return torch.stack([choose(row, g) for row, g in zip(shape_logits(logits, options), generators, strict=True)])


def context_start(n_tokens: int, context: int) -> int:
    """Where the window begins that predicts token `n_tokens`: 0 while everything fits, then in strides.

    The window slides by a quarter of the context at a time, so it holds between 3/4 of the context and all of it. The
    positions of what stays in it all change at a slide, and so do its keys and values, which have seen the tokens that
    left: the window is read again, which a stride pays once for many tokens. A pure function of the two numbers, so
    with the cache and without, and wherever a prompt ends, the model sees the same tokens.
    """
    stride = max(1, context // 4)
    return max(0, math.ceil((n_tokens - context) / stride)) * stride


def context_length(model: GPT, options: SamplingOptions) -> int:
    """Tokens the model may see at once: `options.context`, or the `block_size` it was trained with.

    Raises ConfigError when the positions of this model end before.
    """
    if options.context is None:
        return model.config.block_size
    if model.max_positions is not None and options.context > model.max_positions:
        raise ConfigError(
            f"context={options.context} is more than the {model.max_positions} tokens that "
            f"position={model.config.position} can encode (rotary, alibi, sinusoidal and none have no limit)"
        )
    return options.context


@torch.inference_mode()
def next_logits(model: GPT, tokens: Tensor, cache: Cache | None = None) -> Tensor:
    """Logits (B, V) of the token after `tokens` (B, T >= 1), which stand behind those that `cache` holds."""
    return model.logits(model.hidden(tokens, cache)[:, -1])


def generate_tokens(model: GPT, prompt: Tensor, options: SamplingOptions, valid_vocab: int) -> Iterator[Tensor]:
    """The tokens that follow `prompt` (B, T >= 1) int64, one (B,) int64 at a time, on the prompt's device.

    `model` is used as it is: put it into eval mode, or its dropout is sampled too. Ids from `valid_vocab` on (the
    padding of a vocabulary) are never drawn. Row b draws from a generator of its own, seeded with `options.seed + b`;
    torch's global one is not touched. Past `context_length` tokens the window slides, see `context_start`. To end
    early, stop asking. Raises ConfigError, at once, for an empty prompt and for a context beyond the model's positions.
    """
    return (tokens for _, tokens in generate_choices(model, prompt, options, valid_vocab))


def generate_choices(
    model: GPT, prompt: Tensor, options: SamplingOptions, valid_vocab: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """What `generate_tokens` gives, each with the logits (B, valid_vocab) that it was chosen by, before `options`."""
    context = context_length(model, options)
    if prompt.shape[1] == 0:
        raise ConfigError("a prompt of 0 tokens gives the model nothing to read: begin with start_token(tokenizer)")
    seed = options.first_seed()
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(prompt))]
    return _decode(model, prompt, options, context=context, generators=generators, valid_vocab=valid_vocab)


def _decode(
    model: GPT,
    prompt: Tensor,
    options: SamplingOptions,
    *,
    context: int,
    generators: list[torch.Generator],
    valid_vocab: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    B, T = prompt.shape
    weight = model.token_embedding.weight
    cache = None
    if options.use_cache and not model.without_cache:
        longest = min(context, T + options.max_new_tokens)
        cache = KVCache(model.config, B, longest, device=weight.device, dtype=weight.dtype)
    start = context_start(T, context)
    window = prompt[:, start:]  # (B, T - start)
    with ExitStack() as stack:
        for n_tokens in range(T, T + options.max_new_tokens):
            slide = context_start(n_tokens, context) - start
            if slide > 0:
                start, window = start + slide, window[:, slide:]
                if cache is not None:
                    cache.reset()
            if n_tokens == T + 1 and options.max_new_tokens >= PACK_FROM:  # nobody waits for the first token
                stack.enter_context(packed(model))
            unread = window if cache is None else window[:, cache.length :]
            logits = next_logits(model, unread, cache)[:, :valid_vocab]
            tokens = next_tokens(logits, options, generators).to(prompt.device)
            window = torch.cat((window, tokens[:, None]), dim=1)
            yield logits, tokens


def start_token(tokenizer: Tokenizer) -> int:
    """What an empty prompt begins with: the beginning of a text, else a newline, else id 0."""
    if tokenizer.special.bos is not None:
        return tokenizer.special.bos
    try:
        return (tokenizer.encode("\n") or [0])[0]  # to a tokenizer of numbers a newline is nothing
    except DataError:  # a character tokenizer of a text in one line
        return 0


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of `prompt` in the model's template, at least one: without a template an empty prompt is `start_token`.

    Raises DataError for characters that it cannot encode.
    """
    special = tokenizer.special
    return [*special.before, *tokenizer.encode(prompt), *special.after] or [start_token(tokenizer)]


def decode_pieces(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """The text of `ids` as it comes, never half a character, up to a token that ends texts or the end of `ids`."""
    decoder = StreamDecoder(tokenizer)
    for token in ids:
        yield decoder.push(token)  # one that ends texts is mostly no text; an ordinary token may end them too
        if token in tokenizer.special.stop:
            break
    yield decoder.finish()


def until(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """`pieces` up to the first place where `stop` (not empty) begins, across their borders.

    Text that may still turn out to be the beginning of `stop` is held back until that is decided.
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
    """Refuse a text to stop at that is empty."""
    if stop == "":
        raise ConfigError("stop='' is found everywhere: give the text to stop at, or leave it out")


def generate_text(
    model: GPT, tokenizer: Tokenizer, prompt: str, options: SamplingOptions, stop: str | None = None
) -> Iterator[str]:
    """The text that continues `prompt`, without it, in pieces that are never empty and join to the whole.

    It ends after `max_new_tokens` tokens, at the end of a document, or before the text `stop`. Raises, at once,
    ConfigError for an empty `stop` and what `generate_tokens` refuses, DataError for a prompt that cannot be encoded.
    """
    check_stop(stop)
    ids = torch.tensor([encode_prompt(tokenizer, prompt)], device=model.token_embedding.weight.device)  # (1, T)
    tokens = generate_tokens(model, ids, options, tokenizer.vocab_size)
    pieces = decode_pieces((int(token) for token in tokens), tokenizer)
    return filter(None, pieces if stop is None else until(pieces, stop))

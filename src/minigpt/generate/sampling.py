"""From logits to tokens: the filters, the draw, the loop of prefill and decode.

Read from top to bottom: each function is one step of `logits -> probabilities -> next token`.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torch import Tensor

from minigpt.errors import CheckpointError, ConfigError
from minigpt.generate.options import SamplingOptions
from minigpt.model.cache import Cache, KVCache
from minigpt.model.gpt import GPT
from minigpt.system.cpu_kernels.linear import packed

PACK_FROM = 64
"""New tokens from which copying the weights into the order that is read fastest pays off, see `packed`."""


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Scale logits (..., V) to `temperature` > 0: below 1 the distribution is sharper, above 1 flatter.

    The largest logit is subtracted first, which the softmax ignores, so that no temperature, however small, overflows.
    """
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits (..., V) to -inf; ties with the k-th stay, k >= V keeps all.

    Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.1 (there k = 10).
    """
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth, -math.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Set logits (..., V) outside the nucleus to -inf: the fewest tokens whose probabilities reach p, 0 < p <= 1.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1. The likeliest token always
    stays; of equally likely ones the lower id comes first.
    """
    ordered, ids = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # the probability of all likelier tokens: the nucleus ends when it reaches p
    outside = torch.empty_like(ids, dtype=torch.bool).scatter(-1, ids, before >= p)
    return logits.masked_fill(outside, -math.inf)


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Set logits (..., V) of tokens less than p times as likely as the likeliest to -inf, 0 < p <= 1.

    Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3. A ratio of probabilities is a difference of
    logits, so no softmax is needed.
    """
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(p), -math.inf)


def shape_logits(logits: Tensor, options: SamplingOptions) -> Tensor:
    """Apply temperature, top-k, top-p and min-p to logits (..., V), in this order: their softmax is sampled from."""
    logits = apply_temperature(logits, options.temperature)
    if options.top_k is not None:
        logits = keep_top_k(logits, options.top_k)
    if options.top_p is not None:
        logits = keep_top_p(logits, options.top_p)
    if options.min_p is not None:
        logits = keep_min_p(logits, options.min_p)
    return logits


def choose(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one id, int64 (), from softmax(logits), logits (V,), with the random numbers of `generator`."""
    return torch.multinomial(logits.softmax(-1), num_samples=1, generator=generator)[0]


def next_tokens(logits: Tensor, options: SamplingOptions, generators: list[torch.Generator]) -> Tensor:
    """Choose the next ids (B,), on the CPU, from logits (B, V): drawn with `generators[b]`, or the likeliest.

    Raises CheckpointError for a logit that is not a finite number, as after a divergence.
    """
    # In float64 on the CPU, whatever the model's device and dtype: the draw depends on the seed and the logits alone.
    logits = logits.to("cpu", torch.float64)
    if not math.isfinite(logits.sum()):  # the sum is finite where all of them are, and takes one pass
        raise CheckpointError("the model's logits are not finite numbers: the run that wrote these weights diverged")
    if options.greedy:
        return logits.argmax(-1)
    return torch.stack([choose(row, g) for row, g in zip(shape_logits(logits, options), generators, strict=True)])


def context_start(n_tokens: int, context: int) -> int:
    """Return the start of the window that predicts token `n_tokens`: 0 while everything fits, then in strides.

    The window slides by a quarter of the context at a time, so it holds between 3/4 of the context and all of it. A
    slide changes the positions of all tokens in it, and their keys and values, which depend on the tokens that left:
    the window is read again, once per stride. A pure function of the two numbers, so the model sees the same tokens
    with a cache and without, wherever a prompt ends.
    """
    stride = max(1, context // 4)
    return max(0, math.ceil((n_tokens - context) / stride)) * stride


def context_length(model: GPT, options: SamplingOptions) -> int:
    """Return the number of tokens that the model sees at once: `options.context`, or its `block_size`.

    Raises ConfigError for more tokens than the model has positions.
    """
    if options.context is None:
        return model.config.block_size
    if model.max_positions is not None and options.context > model.max_positions:
        raise ConfigError(
            f"context={options.context} is more than block_size={model.max_positions}, the most that "
            f"position={model.config.position} can encode (rotary, alibi, sinusoidal and none can go further)"
        )
    return options.context


@torch.inference_mode()
def next_logits(model: GPT, tokens: Tensor, cache: Cache | None = None) -> Tensor:
    """Return logits (B, V) of the token after `tokens` (B, T >= 1), which follow those in `cache`."""
    return model.logits(model.hidden(tokens, cache)[:, -1])


def generate_tokens(model: GPT, prompt: Tensor, options: SamplingOptions, valid_vocab: int) -> Iterator[Tensor]:
    """Yield the tokens that follow `prompt` (B, T >= 1) int64, one (B,) int64 at a time, on the prompt's device.

    `model` is used as it is: in eval mode, unless dropout is wanted. Ids from `valid_vocab` on (the padding of a
    vocabulary) are never drawn. Row b draws from a generator of its own, seeded with `options.seed + b`, and torch's
    global one is left alone. Past `context_length` tokens the window slides, see `context_start`. Raises ConfigError,
    at once, for an empty prompt and for a context beyond the model's positions.
    """
    return (tokens for _, tokens in generate_choices(model, prompt, options, valid_vocab))


def generate_choices(
    model: GPT, prompt: Tensor, options: SamplingOptions, valid_vocab: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tokens of `generate_tokens` with the logits (B, valid_vocab) that they were drawn from, unfiltered."""
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
            if n_tokens == T + 1 and options.max_new_tokens >= PACK_FROM:  # after the first token, which is waited for
                stack.enter_context(packed(model))
            unread = window if cache is None else window[:, cache.length :]
            logits = next_logits(model, unread, cache)[:, :valid_vocab]
            tokens = next_tokens(logits, options, generators).to(prompt.device)
            window = torch.cat((window, tokens[:, None]), dim=1)
            yield logits, tokens

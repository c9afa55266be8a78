"""Continue texts of different lengths together: one forward pass adds a token to each.

A pass mostly costs reading the weights, so several rows cost little more than one.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import DataError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import PACK_FROM, context_length, context_start, next_logits, next_tokens
from minigpt.generate.text import StreamDecoder, check_stop, encode_prompt
from minigpt.model.cache import KVCache, RaggedCache
from minigpt.model.gpt import GPT
from minigpt.system.cpu_kernels.linear import packed


@dataclass(kw_only=True)
class Row:
    """One of the texts."""

    ids: list[int]
    """Its tokens so far, beginning with the prompt; never empty."""
    start: int
    """Start of its window, see `context_start`."""
    generator: torch.Generator


class Batch:
    """Rows of tokens, each extended by one token at every `step`.

    Each row has its own generator and its own window: its tokens are those that `generate_tokens` gives for it alone,
    up to the rounding of a product of several rows.
    """

    def __init__(
        self,
        model: GPT,
        prompts: Sequence[Sequence[int]],
        options: SamplingOptions,
        *,
        seeds: Sequence[int],
        valid_vocab: int,
    ) -> None:
        """Row b continues `prompts[b]`, of one token or more, and draws from `seeds[b]`; `options.seed` is not used.

        Raises ConfigError for a context beyond the model's positions.
        """
        self.model = model
        self.options = options
        self.valid_vocab = valid_vocab
        self.context = context_length(model, options)
        self.rows = [
            Row(
                ids=list(prompt),
                start=context_start(len(prompt), self.context),
                generator=torch.Generator().manual_seed(seed),
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        weight = model.token_embedding.weight
        self.device = weight.device
        self.cache = None
        if options.use_cache and not model.without_cache:
            longest = min(self.context, max(map(len, prompts)) + options.max_new_tokens)
            self.cache = RaggedCache(model.config, len(prompts), longest, device=self.device, dtype=weight.dtype)

    def step(self) -> list[int]:
        """Add one token to each row, and return these tokens."""
        for index, row in enumerate(self.rows):
            start = context_start(len(row.ids), self.context)
            if start > row.start and self.cache is not None:
                self.cache.rows[index].reset()
            row.start = start
        logits = self._read_alone() if self.cache is None else self._read_together(self.cache)
        generators = [row.generator for row in self.rows]
        tokens = next_tokens(logits[:, : self.valid_vocab], self.options, generators).tolist()
        for row, token in zip(self.rows, tokens, strict=True):
            row.ids.append(token)
        return tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self.rows = [self.rows[index] for index in rows]
        if self.cache is not None:
            self.cache.keep(rows)

    def _read_alone(self) -> Tensor:
        return torch.cat([next_logits(self.model, self._tensor([row.ids[row.start :]])) for row in self.rows])

    def _read_together(self, cache: RaggedCache) -> Tensor:
        """Return logits (B, V): each row reads its unread tokens by itself, the last one in common."""
        for index, (row, own) in enumerate(zip(self.rows, cache.rows, strict=True)):
            unread = row.ids[row.start + own.length : -1]
            if not unread:
                continue
            if index > 0 and self.rows[index - 1].ids == row.ids:  # samples of one prompt: read once
                cache.copy_row(index - 1, index)
            else:
                self._read(unread, own)
        return next_logits(self.model, self._tensor([row.ids[-1:] for row in self.rows]), cache)

    @torch.inference_mode()
    def _read(self, ids: list[int], cache: KVCache) -> None:
        self.model.hidden(self._tensor([ids]), cache)

    def _tensor(self, ids: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(ids, device=self.device)


@dataclass(kw_only=True)
class RowText:
    """The text of a row, decoded token by token."""

    tokenizer: Tokenizer
    stop: str | None
    text: str = ""
    ended: bool = False
    decoder: StreamDecoder = field(init=False)

    def __post_init__(self) -> None:
        self.decoder = StreamDecoder(self.tokenizer)

    def push(self, token: int) -> None:
        """Add the text of `token`; the end of a document or the text `stop` ends it."""
        self.ended = token in self.tokenizer.special.stop
        before = len(self.text)
        self.text += self.decoder.push(token)
        if self.stop is not None and self.stop in self.text[max(0, before - len(self.stop)) :]:
            self.ended = True

    def finish(self) -> str:
        """Return the whole text, up to `stop`."""
        whole = self.text + self.decoder.finish()
        return whole if self.stop is None else whole.partition(self.stop)[0]


def generate_texts(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: SamplingOptions,
    *,
    seeds: Sequence[int],
    stop: str | None = None,
) -> list[str]:
    """Return the texts that continue `prompts`, without them, computed together; `generate_text` gives one.

    Text b draws from `seeds[b]`, whatever the others are. Rows whose text has ended leave the batch. Raises what
    `generate_text` does.
    """
    check_stop(stop)
    batch = Batch(model, encode_prompts(tokenizer, prompts), options, seeds=seeds, valid_vocab=tokenizer.vocab_size)
    texts = [RowText(tokenizer=tokenizer, stop=stop) for _ in prompts]
    with packed(model) if options.max_new_tokens >= PACK_FROM else nullcontext():
        grow(batch, texts, options.max_new_tokens)
    return [text.finish() for text in texts]


def grow(batch: Batch, texts: Sequence[RowText], n: int) -> None:
    """Add n tokens to each of the texts, the rows of `batch` in their order, or fewer to those that end."""
    growing = list(texts)
    for _ in range(n):
        for text, token in zip(growing, batch.step(), strict=True):
            text.push(token)
        going_on = [index for index, text in enumerate(growing) if not text.ended]
        if len(going_on) < len(growing):
            growing = [growing[index] for index in going_on]
            if not growing:
                return
            batch.keep(going_on)


def encode_prompts(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """Encode each prompt by `encode_prompt`; a DataError names the one that cannot be encoded."""
    encoded = []
    for number, prompt in enumerate(prompts, start=1):
        try:
            encoded.append(encode_prompt(tokenizer, prompt))
        except DataError as error:
            raise DataError(f"prompt {number}: {error}" if len(prompts) > 1 else str(error)) from None
    return encoded

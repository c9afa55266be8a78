"""Measure prefill and decode: reading a prompt and generating after it, with the KV cache and without."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions
from minigpt.generate.sampling import generate_tokens
from minigpt.lab.bench.measure import Interleaving, ReportProgress, no_progress
from minigpt.lab.bench.setting import Setting
from minigpt.model.gpt import GPT
from minigpt.system.cpu_kernels.swap import use_cpu_kernels
from minigpt.system.matmul import synchronize

CACHED, UNCACHED = "cached", "uncached"
MOST_NEW_TOKENS = 256
_WARMUP = 8
"""Tokens generated before timing, while memory is allocated and kernels are chosen."""
_OPTIONS = {CACHED: True, UNCACHED: False}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a measurement: `batch_size` prompts of `prompt` tokens, and `new` tokens after each."""

    batch_size: int
    prompt: int
    new: int


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Tokens per second of all sequences together, in each round; the keys are CACHED and UNCACHED."""

    shape: Shape
    prefill: dict[str, list[float]] = field(default_factory=dict)
    decode: dict[str, list[float]] = field(default_factory=dict)


def shapes(block_size: int, batch_sizes: Sequence[int], contexts: Sequence[int] | None) -> list[Shape]:
    """All combinations of batch sizes and prompt lengths; by default a single token and half of the window.

    The new tokens fill the window, up to 256. Raises ConfigError for a prompt that leaves no room for two of them: the
    first belongs to the prefill.
    """
    prompts = contexts or sorted({1, max(1, block_size // 2)})
    for prompt in prompts:
        if not 1 <= prompt <= block_size - 1:
            raise ConfigError(
                f"--contexts {prompt} must lie between 1 and {block_size - 1}: model.block_size={block_size}"
            )
    return [
        Shape(batch_size=batch, prompt=prompt, new=min(MOST_NEW_TOKENS, block_size - prompt + 1))
        for batch in batch_sizes
        for prompt in prompts
    ]


def decode(setting: Setting, shape: Shape, n_rounds: int, progress: ReportProgress = no_progress) -> Decoded:
    """Decode the same greedy texts with the cache and without in alternating turns, as `minigpt generate` does; the
    weights are random."""
    torch.manual_seed(setting.experiment.seed_everything)
    model = use_cpu_kernels(GPT(setting.config).to(setting.device).eval())
    if model.without_cache:
        raise ConfigError(
            f"--decode compares decoding with and without a KV cache: {model.without_cache[0]} does not support one"
        )
    decoded = Decoded(shape=shape)
    turns = {name: partial(_turn, model, setting, decoded, name) for name in _OPTIONS}
    short = replace(shape, new=min(shape.new, _WARMUP))
    for name in _OPTIONS:
        _turn(model, setting, Decoded(shape=short), name)
    Interleaving(turns, n_rounds, setting.device, progress=progress).take_turns()
    return decoded


def _turn(model: GPT, setting: Setting, decoded: Decoded, name: str) -> None:
    """Decode once and record both rates."""
    shape, vocab_size = decoded.shape, setting.config.vocab_size
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(vocab_size, (shape.batch_size, shape.prompt), generator=generator).to(setting.device)
    options = SamplingOptions(greedy=True, max_new_tokens=shape.new, use_cache=_OPTIONS[name])
    tokens = generate_tokens(model, prompt, options, vocab_size)
    began = time.perf_counter()
    next(tokens)
    synchronize(setting.device)
    first = time.perf_counter()
    n_later = sum(1 for _ in tokens)
    synchronize(setting.device)
    ended = time.perf_counter()
    decoded.prefill.setdefault(name, []).append(shape.batch_size * shape.prompt / (first - began))
    decoded.decode.setdefault(name, []).append(shape.batch_size * n_later / (ended - first))

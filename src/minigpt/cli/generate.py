"""Sample text from a run or a checkpoint: prompts and their continuations, on stdout as they come; notes on stderr."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.options import ModelOptions, option
from minigpt.cli.prompts import named_prompts, piped_prompt
from minigpt.errors import ConfigError
from minigpt.generate.options import SamplingOptions, texts_at_once
from minigpt.system.output import complain, echo, note, symbols

if TYPE_CHECKING:
    from minigpt.api import LoadedGPT

SEPARATOR = "---"
"""The line between two samples."""


@dataclass(frozen=True, kw_only=True)
class Options(SamplingOptions, ModelOptions):
    """Which model continues which prompts, and how."""

    prompt: tuple[str, ...] | None = option(None, "TEXT", append=True)
    """Beginning of the text; without it stdin is read if it is piped (less one final newline); empty: the beginning of
    a document; may be given several times."""
    prompts: Path | None = option(None, "FILE")
    """Read the prompts from a file, one a line."""
    n_samples: int = 1
    """Texts for each prompt, a line --- separates two."""
    stop: str | None = option(None, "TEXT")
    """End before this text."""
    show_probabilities: bool = False
    """Colour each token by the probability that the model gave it; where stdout is no terminal, TERM is dumb or
    NO_COLOR set, write it in percent behind the token: class{93}."""
    batch_size: int | None = None
    """Texts to compute at once, shown when they are whole (default: 16 of several prompts; samples of one prompt in
    turn, each as it comes)."""
    use_cache: bool = option(True, flag="--no_cache")
    """Recompute keys and values at every token."""


def run(options: Options) -> int:
    """Write the samples; gives 0. Every setting is checked before torch is imported."""
    sampling = SamplingOptions(**{field.name: getattr(options, field.name) for field in fields(SamplingOptions)})
    samples = sampling.for_samples(options.n_samples)
    named = named_prompts(options.prompt, options.prompts)
    at_once = texts_at_once(options.batch_size, len(named))
    if options.show_probabilities and options.batch_size is not None:
        raise ConfigError("--show_probabilities writes one text at a time: leave --batch_size out")
    from minigpt.api import load

    loaded = load(options.run, device=options.device, prefer=options.prefer)
    prompts = named or [piped_prompt()]
    stop = options.stop
    texts: Iterable[Iterable[str]]
    in_colour = options.show_probabilities and wants_colour()
    if options.show_probabilities:
        texts = with_probabilities(loaded, prompts, samples, stop, in_colour)
    else:
        texts = loaded.texts(prompts, samples, stop, at_once)
    for number, prompt in enumerate(prompts, start=1):
        note_long_prompt(loaded, prompt, sampling, "the prompt" if len(prompts) == 1 else f"prompt {number}")
    if options.seed is None and not options.greedy:
        note(f"--seed {samples[0].seed} gives this text again")
    for index, pieces in enumerate(texts):
        if index > 0:
            echo(SEPARATOR)
        try:
            for piece in pieces:
                echo(piece, end="", styled=in_colour)
        finally:  # on Ctrl-C too the shell's prompt begins a new line
            echo("")
    return 0


def wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def with_probabilities(
    loaded: "LoadedGPT", prompts: Sequence[str], samples: Sequence[SamplingOptions], stop: str | None, in_colour: bool
) -> Iterator[Iterator[str]]:
    """Yield the texts of the prompts, prompt first, each token of a continuation shown with its probability."""
    from minigpt.interpret.coloured import in_terminal, legend, marked

    show = in_terminal if in_colour else marked
    if in_colour:
        complain(f"minigpt: note: colours say how likely a token was: {legend()}")
    before = [prompt for prompt in prompts for _ in samples]
    texts = loaded.scored(prompts, samples, stop)
    return (
        chain([symbols(prompt) if in_colour else prompt], (show(*piece) for piece in pieces))
        for prompt, pieces in zip(before, texts, strict=True)
    )


def note_long_prompt(loaded: "LoadedGPT", prompt: str, options: SamplingOptions, name: str) -> None:
    """Note on stderr how many tokens of a prompt longer than the context count."""
    from minigpt.generate.sampling import context_length, context_start
    from minigpt.generate.text import encode_prompt

    n_tokens = len(encode_prompt(loaded.tokenizer, prompt))
    context = context_length(loaded.model, options)
    start = context_start(n_tokens, context)
    if start > 0:
        note(f"{name} has {n_tokens} tokens, the context {context}: only the last {n_tokens - start} count")

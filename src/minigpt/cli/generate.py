"""Sample text from a run or a checkpoint: prompts and their continuations, on stdout as they come; notes on stderr."""

import argparse
import os
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.prompts import named_prompts, piped_prompt
from minigpt.errors import ConfigError
from minigpt.generate.options import BATCH_SIZE, SamplingOptions, texts_at_once
from minigpt.system.output import complain, echo, note, symbols

if TYPE_CHECKING:
    from minigpt.api import LoadedGPT

SEPARATOR = "---"
"""The line between two samples."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options. SUPPRESS: an option that is not given leaves SamplingOptions its default."""
    parser.add_argument("run", metavar="RUN-or-CHECKPOINT", help="run folder, its name under runs/, or checkpoint file")
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        action="append",
        default=SUPPRESS,
        help="beginning of the text; without it stdin is read if it is piped (less one final newline); empty: the "
        "beginning of a document; may be given several times",
    )
    parser.add_argument(
        "--prompts", metavar="FILE", type=Path, default=SUPPRESS, help="read the prompts from a file, one a line"
    )
    _add_how_much(parser.add_argument_group("how much").add_argument)
    _add_how_to_choose(parser.add_argument_group("how to choose").add_argument)
    _add_how_to_run(parser.add_argument_group("how to run").add_argument)


def _add_how_much(add: Callable[..., object]) -> None:
    add(
        "--max_new_tokens",
        type=int,
        metavar="N",
        default=SamplingOptions.max_new_tokens,
        help="tokens to add at most; the end of a document ends the text earlier",
    )
    add(
        "--n_samples",
        type=int,
        metavar="N",
        default=1,
        help=f"texts for each prompt, a line {SEPARATOR} stands between two",
    )
    add("--stop", metavar="TEXT", default=SUPPRESS, help="end before this text")
    add(
        "--context",
        type=int,
        metavar="N",
        default=SUPPRESS,
        help="tokens the model sees at most (default: its block_size, which learned positions cannot exceed); a longer "
        "text, or prompt, slides out of its sight in strides of N/4",
    )
    add(
        "--show_probabilities",
        action="store_true",
        help="colour each token by the probability that the model gave it; where stdout is no terminal, TERM is "
        "dumb or NO_COLOR set, write it in percent behind the token: class{93}",
    )


def _add_how_to_choose(add: Callable[..., object]) -> None:
    add(
        "--temperature",
        type=float,
        metavar="T",
        default=SamplingOptions.temperature,
        help="below 1 bolder, 1 the model's own distribution, above 1 more varied",
    )
    add("--top_k", type=int, metavar="K", default=SUPPRESS, help="only the K likeliest tokens")
    add("--top_p", type=float, metavar="P", default=SUPPRESS, help="only the likeliest tokens that together reach P")
    add(
        "--min_p",
        type=float,
        metavar="P",
        default=SUPPRESS,
        help="only tokens at least P times as likely as the likeliest",
    )
    add("--greedy", action="store_true", default=SUPPRESS, help="always the likeliest token")
    add(
        "--seed",
        type=int,
        metavar="S",
        default=SUPPRESS,
        help="the same seed gives the same text; sample i draws from S + i (default: a fresh one, noted on stderr)",
    )


def _add_how_to_run(add: Callable[..., object]) -> None:
    add("--prefer", choices=("best", "last"), default="best", help="which checkpoint of a run")
    add("--device", default="auto", help="cpu, cuda, cuda:N, mps, or auto for the fastest there is")
    add(
        "--batch_size",
        type=int,
        metavar="N",
        default=SUPPRESS,
        help=f"texts to compute at once, shown when they are whole (default: {BATCH_SIZE} of several prompts; samples "
        "of one prompt in turn, each as it comes)",
    )
    add(
        "--no_cache",
        dest="use_cache",
        action="store_false",
        default=SUPPRESS,
        help="recompute keys and values at every token",
    )


def run(args: argparse.Namespace) -> int:
    """Write the samples; gives 0. Every setting is checked before torch is imported."""
    given = vars(args)
    names = {field.name for field in fields(SamplingOptions)}
    options = SamplingOptions(**{name: value for name, value in given.items() if name in names})
    samples = options.for_samples(args.n_samples)
    named = named_prompts(given)
    at_once = texts_at_once(given.get("batch_size"), len(named))
    if args.show_probabilities and "batch_size" in given:
        raise ConfigError("--show_probabilities writes one text at a time: leave --batch_size out")
    from minigpt.api import load

    loaded = load(args.run, device=args.device, prefer=args.prefer)
    prompts = named or [piped_prompt()]
    stop = given.get("stop")
    texts: Iterable[Iterable[str]]
    in_colour = args.show_probabilities and wants_colour()
    if args.show_probabilities:
        texts = with_probabilities(loaded, prompts, samples, stop, in_colour)
    else:
        texts = loaded.texts(prompts, samples, stop, at_once)
    for number, prompt in enumerate(prompts, start=1):
        note_long_prompt(loaded, prompt, options, "the prompt" if len(prompts) == 1 else f"prompt {number}")
    if "seed" not in given and "greedy" not in given:
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
    """The texts of the prompts, prompt first, each piece of a continuation shown with its probability."""
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
    """Say on stderr how much of a prompt that is longer than the context counts."""
    from minigpt.generate.sampling import context_length, context_start, encode_prompt

    n_tokens = len(encode_prompt(loaded.tokenizer, prompt))
    context = context_length(loaded.model, options)
    start = context_start(n_tokens, context)
    if start > 0:
        note(f"{name} has {n_tokens} tokens, the context {context}: only the last {n_tokens - start} count")

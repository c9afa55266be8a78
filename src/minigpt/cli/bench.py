"""Measure how fast this machine trains the model of a config, and how fast it decodes; contenders take turns."""

import argparse
import contextlib
import os
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.files import atomic_write
from minigpt.system.marks import may_replace
from minigpt.system.output import console, note

if TYPE_CHECKING:
    from minigpt.lab.bench.measure import ReportProgress
    from minigpt.lab.bench.report import Report
    from minigpt.lab.bench.setting import Setting

AGAINST = ("transformers",)
_EPILOG = (
    "Every key of a config is an option too, as in minigpt fit: --model.n_layer 6, --trainer.precision bf16-mixed."
)
_ROUNDS, _DECODINGS = 10, 3
"""Turns of each contender, of training and of decoding."""
_QUIET = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}
"""torch's profiler says on stderr when it starts and stops."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked command line."""

    options: argparse.Namespace
    config_words: list[str]
    """Those that `minigpt fit` would understand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that are not keys of a config. SUPPRESS: one that is not given has its value in `_ABSENT`."""
    parser.add_argument(
        "--config", metavar="FILE", action="append", default=SUPPRESS, help="YAML file; several are merged"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--against",
        metavar="LIBRARY",
        default=SUPPRESS,
        help=f"also race the GPT-2 of the same shape of {', '.join(AGAINST)}",
    )
    what.add_argument(
        "--generate",
        action="store_true",
        default=SUPPRESS,
        help="measure prefill and decode instead of training steps",
    )
    what.add_argument(
        "--profile",
        action="store_true",
        default=SUPPRESS,
        help="name the five largest costs of a training step",
    )
    parser.add_argument("--steps", type=int, metavar="N", default=100, help="training steps of each contender")
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        default=SUPPRESS,
        help=f"turns of each contender (default: {_ROUNDS}, or --steps where they are fewer; --generate: {_DECODINGS})",
    )
    parser.add_argument(
        "--batch_sizes", type=int, nargs="+", metavar="N", default=[1, 4], help="--generate: prompts at a time"
    )
    parser.add_argument(
        "--contexts",
        type=int,
        nargs="+",
        metavar="N",
        default=SUPPRESS,
        help="--generate: tokens of a prompt (default: 1, and half a window)",
    )
    parser.add_argument(
        "--out", metavar="FILE.md", default=SUPPRESS, help="also write table, machine and command to this file"
    )


_ABSENT: dict[str, Any] = {
    "config": None,
    "against": None,
    "generate": False,
    "profile": False,
    "rounds": None,
    "contexts": None,
    "out": None,
}


def main(argv: Sequence[str]) -> int:
    """Check the command line, measure, and print a table; gives 0."""
    request = read(argv)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from minigpt.cli.experiment import build_experiment
    from minigpt.lab.bench.setting import make_setting
    from minigpt.system.tables import say, show
    from minigpt.training.quiet import quiet

    experiment, _ = build_experiment(request.config_words)
    setting = make_setting(experiment, progress=sys.stderr.isatty())
    if setting.note:
        note(setting.note)
    with quiet(), _bar() as progress:
        report = _measure(request.options)(setting, request.options, progress)
    terminal = console()
    for line in report.notes:
        say(terminal, line)
    show(terminal, report.table())
    say(terminal, report.verdict, style="bold")
    if request.options.out:
        atomic_write(Path(request.options.out), report.markdown(["minigpt", "bench", *argv]))
    return 0


def read(argv: Sequence[str]) -> Request:
    """The command line, taken apart and checked before torch is imported; raises ConfigError. `--help` ends here."""
    from minigpt.cli.options import OptionParser

    parser = OptionParser("bench", __doc__)
    parser.epilog = _EPILOG
    add_arguments(parser)
    given, rest = parser.parse_known_args(list(argv))
    options = argparse.Namespace(**_ABSENT | vars(given))
    if options.rounds is None:
        options.rounds = _DECODINGS if options.generate else min(_ROUNDS, max(1, options.steps))
    _check(options)
    from minigpt.cli.experiment import read_experiment
    from minigpt.cli.keys import check_names

    check_names(rest, also=[name.removeprefix("--") for name in parser.option_names()])
    refused = [word for word in rest if word.split("=")[0] in {"--ckpt_path", "--print_config"}]
    if refused:
        raise ConfigError(f"{refused[0]} is for minigpt fit: bench trains from scratch and keeps nothing")
    words = [*(word for file in options.config for word in ("--config", file)), *rest]
    read_experiment(words)
    return Request(options=options, config_words=words)


def _check(options: argparse.Namespace) -> None:
    if not options.config:
        raise ConfigError("bench needs --config FILE: --config base, say")
    if options.against is not None and options.against not in AGAINST:
        near = did_you_mean(options.against, AGAINST)
        raise ConfigError(f"--against {options.against} must be one of {', '.join(AGAINST)}{near}")
    for name in ("steps", "rounds"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name} {getattr(options, name)} must be a whole number, 1 or more")
    if not (options.generate or options.profile) and options.rounds > options.steps:
        raise ConfigError(
            f"--rounds {options.rounds} must be at most --steps {options.steps}: a turn is a step or more"
        )
    if min(options.batch_sizes) < 1:
        raise ConfigError(f"--batch_sizes {min(options.batch_sizes)} must be a whole number, 1 or more")
    if options.out is not None and not Path(options.out).parent.is_dir():
        raise ConfigError(f"--out {options.out}: there is no folder {Path(options.out).parent}")
    if options.out is not None and not may_replace(Path(options.out), b"`minigpt bench"):
        raise ConfigError(f"--out {options.out} is there, and minigpt bench did not write it: name another file")


def _measure(options: argparse.Namespace) -> "Callable[[Setting, argparse.Namespace, ReportProgress], Report]":
    if options.generate:
        return _decode
    return _profile if options.profile else _race


@contextlib.contextmanager
def _bar() -> "Iterator[ReportProgress]":
    """A bar on stderr where that is a terminal, drawn between what is timed and never meanwhile."""
    from minigpt.lab.bench.measure import say_nothing
    from minigpt.system.status_bar import StatusBar, left_text

    if not sys.stderr.isatty():
        yield say_nothing
        return
    bar, began = StatusBar(console(stderr=True), transient=True), time.monotonic()

    def progress(done: int, total: int) -> None:
        head = f"turn {done} of {total}" if total else "measuring"
        bar.show(done, total, head=head, tail=left_text(done, total, time.monotonic() - began))

    bar.start()
    try:
        bar.show(0, 0, head="warming up")
        yield progress
    finally:
        bar.stop()


def _race(setting: "Setting", options: argparse.Namespace, progress: "ReportProgress") -> "Report":
    from minigpt.lab.bench.report import race_report
    from minigpt.lab.bench.training import race

    steps = -(-options.steps // options.rounds)
    raced = race(setting, against=options.against, steps=steps, n_rounds=options.rounds, progress=progress)
    return race_report(setting, raced, steps)


def _decode(setting: "Setting", options: argparse.Namespace, progress: "ReportProgress") -> "Report":
    from minigpt.lab.bench.decoding import decode, shapes
    from minigpt.lab.bench.report import decode_report

    wanted = shapes(setting.config.block_size, options.batch_sizes, options.contexts)
    decoded = []
    for number, shape in enumerate(wanted):

        def of_all(done: int, total: int, before: int = number) -> None:
            progress(before * total + done, len(wanted) * total)

        decoded.append(decode(setting, shape, options.rounds, of_all))
    return decode_report(setting, decoded)


def _profile(setting: "Setting", options: argparse.Namespace, progress: "ReportProgress") -> "Report":
    from minigpt.lab.bench.costs import profile_step
    from minigpt.lab.bench.report import profile_report

    progress(0, 0)
    return profile_report(setting, profile_step(setting, options.steps))

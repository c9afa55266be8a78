"""Measure how fast this machine trains the model of a config, and how fast it decodes; contenders take turns."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.cli.options import OptionParser, option
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
class Options:
    """What is measured, and how often."""

    config: tuple[str, ...] = option((), "FILE", append=True)
    """YAML file, or name of a shipped config; several are merged."""
    against: str | None = option(None, "LIBRARY", exclusive=True)
    """Also race the GPT-2 of the same shape of transformers."""
    generate: bool = option(False, exclusive=True)
    """Measure prefill and decode instead of training steps."""
    profile: bool = option(False, exclusive=True)
    """Name the five largest costs of a training step."""
    steps: int = 100
    """Training steps of each contender."""
    rounds: int | None = None
    """Turns of each contender (default: 10, or --steps where they are fewer; --generate: 3)."""
    batch_sizes: tuple[int, ...] = option((1, 4), "N")
    """With --generate: prompts at a time."""
    contexts: tuple[int, ...] | None = option(None, "N")
    """With --generate: tokens of a prompt (default: 1, and half a window)."""
    out: Path | None = option(None, "FILE.md")
    """Also write table, machine and command to this file."""

    @property
    def n_rounds(self) -> int:
        """Turns of each contender, with the default filled in."""
        if self.rounds is not None:
            return self.rounds
        return _DECODINGS if self.generate else min(_ROUNDS, max(1, self.steps))


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked command line."""

    options: Options
    config_words: list[str]
    """The words for the parser of `minigpt fit`."""


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
    """Parse and check the command line before torch is imported; raises ConfigError. `--help` exits here."""
    parser = OptionParser("bench", __doc__, Options, _EPILOG)
    options, rest = parser.parse_known_options(argv)
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


def _check(options: Options) -> None:
    if not options.config:
        raise ConfigError("bench needs --config FILE: --config base, say")
    if options.against is not None and options.against not in AGAINST:
        near = did_you_mean(options.against, AGAINST)
        raise ConfigError(f"--against {options.against} must be one of {', '.join(AGAINST)}{near}")
    for name in ("steps", "rounds"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} {value} must be a whole number, 1 or more")
    if not (options.generate or options.profile) and options.n_rounds > options.steps:
        raise ConfigError(
            f"--rounds {options.n_rounds} must be at most --steps {options.steps}: a turn is a step or more"
        )
    if min(options.batch_sizes) < 1:
        raise ConfigError(f"--batch_sizes {min(options.batch_sizes)} must be a whole number, 1 or more")
    if options.out is not None and not options.out.parent.is_dir():
        raise ConfigError(f"--out {options.out}: there is no folder {options.out.parent}")
    if options.out is not None and not may_replace(options.out, b"`minigpt bench"):
        raise ConfigError(f"--out {options.out} is there, and minigpt bench did not write it: name another file")


def _measure(options: Options) -> "Callable[[Setting, Options, ReportProgress], Report]":
    if options.generate:
        return _decode
    return _profile if options.profile else _race


@contextlib.contextmanager
def _bar() -> "Iterator[ReportProgress]":
    """Show a progress bar on stderr if that is a terminal; it is drawn between timings, never during one."""
    from minigpt.lab.bench.measure import no_progress
    from minigpt.system.status_bar import StatusBar, left_text

    if not sys.stderr.isatty():
        yield no_progress
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


def _race(setting: "Setting", options: Options, progress: "ReportProgress") -> "Report":
    from minigpt.lab.bench.report import race_report
    from minigpt.lab.bench.training import race

    steps = -(-options.steps // options.n_rounds)
    raced = race(setting, against=options.against, steps=steps, n_rounds=options.n_rounds, progress=progress)
    return race_report(setting, raced, steps)


def _decode(setting: "Setting", options: Options, progress: "ReportProgress") -> "Report":
    from minigpt.lab.bench.decoding import decode, shapes
    from minigpt.lab.bench.report import decode_report

    wanted = shapes(setting.config.block_size, options.batch_sizes, options.contexts)
    decoded = []
    for number, shape in enumerate(wanted):

        def of_all(done: int, total: int, before: int = number) -> None:
            progress(before * total + done, len(wanted) * total)

        decoded.append(decode(setting, shape, options.n_rounds, of_all))
    return decode_report(setting, decoded)


def _profile(setting: "Setting", options: Options, progress: "ReportProgress") -> "Report":
    from minigpt.lab.bench.costs import profile_step
    from minigpt.lab.bench.report import profile_report

    progress(0, 0)
    return profile_report(setting, profile_step(setting, options.steps))

"""`minigpt fit`: train the experiment of a config."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext

from minigpt.errors import ConfigError

TRUST = "--trust_code"


def main(argv: Sequence[str]) -> int:
    """Check the command line, then import lightning, then train; gives the exit code."""
    from minigpt.cli.experiment import build_experiment, read_experiment
    from minigpt.cli.parser import build_parser
    from minigpt.cli.resume import resumed
    from minigpt.runs.code import run_code

    if not argv or "-h" in argv or "--help" in argv:
        build_parser().print_help(sys.stdout)
        return 0
    words, folder = resumed([word for word in argv if word != TRUST])
    if TRUST in argv and folder is None:
        raise ConfigError(f"{TRUST} runs the copies of components that a run keeps: it goes with --resume RUN")
    with nullcontext() if folder is None else run_code(folder, trust=TRUST in argv):
        if not any(word.startswith("--print_config") for word in argv):
            read_experiment(words)
        experiment, ckpt_path = build_experiment(words)

        from minigpt.training.fit import fit

        return fit(experiment, ckpt_path=ckpt_path, resume=folder, command=["minigpt", "fit", *argv])

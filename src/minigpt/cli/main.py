"""The entry point of `minigpt`: import the one command that is asked for, and print errors in one line."""

import _thread
import gc
import importlib
import keyword
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from minigpt import __version__
from minigpt.cli.threads import wait_briefly
from minigpt.errors import ConfigError, MinigptError, did_you_mean, printable
from minigpt.system.output import complain, echo, give_up_stdout, safe_streams

COMMANDS = {
    "plan": "estimate memory, time and loss of a run before it starts: minigpt plan base",
    "fit": "train a model: minigpt fit --config base",
    "validate": "compute loss, perplexity and bits per byte of a run over a whole split",
    "generate": "sample text from a run or a checkpoint",
    "verify": "retrain the steps between two checkpoints of a run and compare bit by bit",
    "replay": "repeat a step that diverged, from its snapshot",
    "sweep": "train a matrix of runs: minigpt sweep ablation",
    "compare": "tell which of several runs is better, and how sure that is: minigpt compare RUN RUN ...",
    "runs": "list the runs under runs/, and clean up",
    "bench": "measure how fast training and decoding are here: minigpt bench --config base",
    "scaling": "fit a scaling law to a sweep and recommend a model size for a budget",
    "configs": "list the configs that come with minigpt, or print one: minigpt configs base > my.yaml",
    "prepare": "turn a corpus into token shards ahead of a run",
    "import": "convert a Hugging Face model (GPT-2, Llama), nanoGPT's checkpoint or safetensors into a checkpoint",
    "export": "write a model for transformers, or as safetensors",
}

_OTHER_NAMES = (
    dict.fromkeys(("train", "pretrain", "finetune", "run"), "fit")
    | dict.fromkeys(("sample", "chat", "complete", "inference", "predict"), "generate")
    | dict.fromkeys(("eval", "evaluate", "test", "score"), "validate")
    | dict.fromkeys(("resume", "continue"), "fit --resume RUN")
    | dict.fromkeys(("tokenize", "preprocess"), "prepare")
    | dict.fromkeys(("convert",), "import or export")
    | dict.fromkeys(("benchmark",), "bench")
    | dict.fromkeys(("list", "ls", "clean"), "runs")
    | dict.fromkeys(("search", "tune"), "sweep")
)
"""What other projects call a command: used only to suggest the right one."""

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables that lightning reads as numbers when it is imported: `RANK=` would be a traceback there."""

LONG = {"fit", "sweep"}
"""Commands that go on when the reader of their output has gone."""

_USAGE = """\
usage: minigpt COMMAND [options]

minigpt {version}: small GPTs from scratch, trained by PyTorch Lightning

commands:
{commands}

minigpt COMMAND --help shows its options.
Begin with: minigpt fit --config base"""

GC_THRESHOLD = 100_000
"""Threshold of the garbage collector's youngest generation: at Python's own 700 a sixth of the imports' time goes into
collections among classes and functions that stay."""

# Numbers that do not even count the bytes end in an overflow.
_NO_MEMORY = re.compile("not enough memory|can't allocate memory|out of memory|size calculation overflowed")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `minigpt` with the arguments `argv`; gives the exit code.

    0: done; 1: data or a checkpoint cannot be used; 2: the command line or the config is wrong; 130: Ctrl-C; 143:
    SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with safe_streams(unread=bool(words) and words[0] in LONG):
        try:
            code = _dispatch(words)
            sys.stdout.flush()  # a reader that has gone is met here, not when Python ends
            return code
        except KeyboardInterrupt:
            complain("minigpt: interrupted")
            return 128 + signal.SIGINT
        except BrokenPipeError:  # nothing is left to say to a reader that has gone
            give_up_stdout()
            return 128 + signal.SIGPIPE
        except Exception as error:
            message = None if os.environ.get("MINIGPT_TRACEBACK") else _message(error)
            if message is None:
                raise
            complain(f"minigpt: error: {printable(message)}")
            return error.exit_code if isinstance(error, MinigptError) else 1


def script() -> NoReturn:
    """Run the program `minigpt` and exit; a Ctrl-C during Python's shutdown no longer changes the exit code."""
    wait_briefly(os.environ)
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    sys.unraisablehook = _interrupt_again
    code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _interrupt_again(ignored: "sys.UnraisableHookArgs") -> None:
    """Send a Ctrl-C again that arrived while an object was being deleted, where Python would print and forget it.

    From another thread: raised here, it would be forgotten again.
    """
    if ignored.exc_type is KeyboardInterrupt:
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(ignored)


def module_name(command: str) -> str:
    """Return the module of a command: its name, with a `_` behind it if that is a keyword of Python (`import`)."""
    return f"minigpt.cli.{command}_" if keyword.iskeyword(command) else f"minigpt.cli.{command}"


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        echo(_usage())
        return 0
    if words[0] in {"-V", "--version"}:
        echo(f"minigpt {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        known = f", did you mean {_OTHER_NAMES[name]}?" if name in _OTHER_NAMES else did_you_mean(name, COMMANDS)
        raise ConfigError(f"unknown command {name}{known or ': ' + ', '.join(COMMANDS)}")
    for variable in _RANKS:
        if not os.environ.get(variable, "0").isdecimal():
            del os.environ[variable]
    command = importlib.import_module(module_name(name))
    if hasattr(command, "main"):  # the keys of a config are its options, which argparse alone cannot express
        return int(command.main(rest))
    from minigpt.cli.options import OptionParser, own_code

    parser = OptionParser(name, command.__doc__, command.Options)
    options = parser.parse_options(rest)
    with own_code(options):
        return int(command.run(options))


def _usage() -> str:
    width = max(map(len, COMMANDS))
    return _USAGE.format(
        version=__version__, commands="\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    )


def _message(error: Exception) -> str | None:
    """Return an error that a person can put right as one line; None for any other, which is a bug of minigpt's."""
    if isinstance(error, MinigptError):
        return str(error)
    text = str(error)
    # torch reports too little memory as a bare RuntimeError.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(text)):
        return f"too little memory for what is asked: {text.splitlines()[0] if text else 'none is left'}"
    from minigpt.system.components import error_line, user_frame

    if user_frame(error) is not None:
        return f"{error_line(error)} (MINIGPT_TRACEBACK=1 shows the traceback)"
    if isinstance(error, OSError):
        reason = error.strerror or text
        return f"{error.filename}: {reason}" if error.filename and error.strerror else reason
    return None


if __name__ == "__main__":
    script()

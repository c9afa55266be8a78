"""Prompts from the command line, from a file, or from a pipe."""

import sys
from collections.abc import Sequence
from pathlib import Path

from minigpt.errors import ConfigError, DataError


def named_prompts(prompts: Sequence[str] | None, path: Path | None) -> list[str]:
    """Return the prompts of --prompt, or those of the --prompts file; none where stdin is to be read.

    Raises ConfigError for both options at once, and what `prompts_in` does.
    """
    if prompts is not None and path is not None:
        raise ConfigError("--prompt and --prompts both give prompts: leave one of them out")
    return list(prompts or ()) if path is None else prompts_in(path)


def prompts_in(path: Path) -> list[str]:
    """Return the lines of a file that are not empty. Raises DataError if there is none, OSError without a file."""
    lines = utf8_text(path.read_bytes(), str(path)).removeprefix("\ufeff").split("\n")
    prompts = [line for line in (line.removesuffix("\r") for line in lines) if line]
    if not prompts:
        raise DataError(f"--prompts {path}: holds no prompt: write one a line")
    return prompts


def piped_prompt() -> str:
    """Return what is piped into the command, without the final newline that `echo` adds; empty at a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    return utf8_text(sys.stdin.buffer.read(), "the prompt on stdin").removesuffix("\n")


def utf8_text(content: bytes, what: str) -> str:
    """Decode `content`; raises DataError with the name `what` if it is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise DataError(f"{what} is not UTF-8: byte 0x{byte:02x} at offset {error.start}") from None

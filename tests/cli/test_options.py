"""Options declared by a dataclass: how they are parsed, what is refused, and where their help comes from."""

import importlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest

from minigpt.cli.main import COMMANDS, module_name
from minigpt.cli.options import OptionParser, argument, field_docs, option
from minigpt.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inherited:
    steps: int = 100
    """GPU steps, 100 % of them."""


@dataclass(frozen=True, kw_only=True)
class Options(Inherited):
    run: str = argument("RUN")
    """The run."""
    out: Path = option(metavar="FOLDER")
    """Where it goes."""
    kind: Literal["best", "last"] | None = None
    """Which."""
    sizes: tuple[int, ...] = option((1, 4), "SIZE")
    """Several at once."""
    prompt: tuple[str, ...] | None = option(None, append=True)
    """Several times."""
    cached: bool = option(True, flag="--no_cache")
    """Without the cache."""
    json: bool = option(False, exclusive=True)
    """Write JSON."""
    hours: float | None = option(None, "H", exclusive=True)
    """For so long (default: for ever)."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"--steps {self.steps} must be at least 1")


def parse(*words: str) -> Options:
    return OptionParser("try", "Try it.", Options).parse_options(words)


def test_values_have_the_types_of_their_fields() -> None:
    assert parse("a", "--out=b") == Options(run="a", out=Path("b"))
    words = ["a", "--out", "b", "--steps", "3", "--kind", "last", "--sizes", "7", "8", "--prompt", "x", "--prompt", "y"]
    words += ["--no_cache", "--hours", "0.5"]
    assert parse(*words) == Options(
        run="a", out=Path("b"), steps=3, kind="last", sizes=(7, 8), prompt=("x", "y"), cached=False, hours=0.5
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "the following arguments are required: --out"),
        (["--out", "b"], "the following arguments are required: RUN"),
        (["a", "--out", "b", "--stps", "3"], "unknown option --stps, did you mean --steps?"),
        (["a", "--out", "b", "--step", "3"], "unknown option --step, did you mean --steps?"),
        (["a", "--out", "b", "--steps", "x"], "argument --steps: invalid int value: 'x'"),
        (["a", "--out", "b", "--steps", "0"], "--steps 0 must be at least 1"),
        (["a", "--out", "b", "--kind", "lst"], "choose from 'best', 'last'), did you mean last?"),
        (["a", "--out", "b", "--json", "--hours", "1"], "argument --hours: not allowed with argument --json"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(*words)
    assert message in str(caught.value)


def test_help_is_in_the_docstrings() -> None:
    lines = " ".join(OptionParser("try", "Try it.", Options).format_help().split())
    assert "--steps N GPU steps, 100 % of them (default: 100)" in lines
    assert "--sizes SIZE [SIZE ...] several at once (default: [1, 4])" in lines
    assert "--no_cache without the cache --json write JSON --hours H for so long (default: for ever)" in lines
    assert "--out FOLDER where it goes" in lines


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"fit"}))
def test_every_option_of_a_command_has_help(command: str) -> None:
    options = importlib.import_module(module_name(command)).Options
    assert set(field_docs(options)) == {field.name for field in fields(options)}

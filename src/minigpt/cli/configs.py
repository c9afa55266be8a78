"""List the configs that come with minigpt, or print one to edit: minigpt configs base > my.yaml"""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from minigpt.cli.options import argument
from minigpt.errors import ConfigError, did_you_mean
from minigpt.system.output import echo
from minigpt.system.shipped_configs import shipped_configs

_TITLES = {
    "configs, for minigpt fit --config NAME:": "minigpt fit",
    "sweeps, for minigpt sweep NAME:": "minigpt sweep",
}
"""Each with how the first line of its files begins: the command that runs them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which config; none: the list."""

    name: str | None = argument("NAME", None)
    """Print this one instead of the list."""


def run(options: Options) -> int:
    """Write the list or the config to stdout; gives 0."""
    configs = shipped_configs()
    if options.name is None:
        echo(config_list(configs))
        return 0
    path = configs.get(options.name.removesuffix(".yaml"))
    if path is None:
        near = did_you_mean(options.name, configs) or f": it must be one of {', '.join(configs)}"
        raise ConfigError(f"no config {options.name} comes with minigpt{near}")
    echo(path.read_text(encoding="utf-8"), end="")
    return 0


def config_list(configs: dict[str, Path]) -> str:
    """Return a line a config, those of single runs before those of sweeps."""
    width = max(map(len, configs))
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in configs.items()}
    blocks = []
    for title, command in _TITLES.items():
        named = {name: summary(text) for name, text in lines.items() if text[0].startswith(f"# {command}")}
        blocks.append("\n".join([title, *(f"  {name:<{width}}  {what}" for name, what in named.items())]))
    return "\n\n".join([*blocks, "minigpt configs NAME > my.yaml gives one to edit."])


def summary(lines: list[str]) -> str:
    """Return the first sentence of the comment that a config begins with; the line above it is the command."""
    comment = takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(line.removeprefix("#").strip() for line in list(comment)[1:]).strip().split(". ")[0].rstrip(".")

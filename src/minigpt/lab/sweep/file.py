"""SWEEP.yaml: a base config, the changes of each cell, and the seeds; checked before anything runs."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from minigpt.errors import ConfigError, did_you_mean, shown
from minigpt.lab.sweep.record import BASE_GROUP
from minigpt.lab.sweep.search_space import SearchSpace, check_keys, parse_search
from minigpt.system.shipped_configs import shipped_configs

EngineName = Literal["local", "ray", "slurm"]
"""Where cells run."""

KEYS = ("base", "name", "seeds", "overrides", "grid", "cells", "search")
_OWNED = {
    "seed_everything": "seeds sets it",
    "run.name": "it is the cell's name",
    "run.root": "it is the sweep's folder; overrides for all cells may set it",
}
_LONGEST_NAME = 150
"""File systems allow 255 bytes, and a temporary name is longer than the final one."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep."""

    name: str
    """The name of its folder: group and seed."""
    group: str
    """The name that its runs with other seeds share."""
    overrides: dict[str, Any]
    """Changes to the config by dotted key, in addition to the sweep's own."""
    seed: int


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The content of a sweep file."""

    path: Path
    """The sweep file."""
    name: str
    base: str
    """The base config as written in the file."""
    base_path: Path
    seeds: tuple[int, ...]
    overrides: dict[str, Any]
    """Changes to the config in all cells."""
    cells: tuple[Cell, ...]
    """Empty for a search, whose cells are made one by one."""
    search: SearchSpace | None = None


def parse_sweep(content: Mapping[str, Any], path: Path, *, changes: Mapping[str, Any]) -> Sweep:
    """Read a sweep from the YAML mapping of the file `path`, with `changes` over its `overrides`.

    Raises ConfigError, one line, for an invalid sweep; the keys of the config are not checked here.
    """
    check_keys(content, KEYS, str(path))
    base = base_of(content, path)
    name = str(content.get("name", path.stem))
    if not _is_plain(name):
        raise ConfigError(f"{path}: name={name!r} must be a plain folder name")
    seeds = _seeds(content["seeds"], path)
    overrides = {**_dotted(content.get("overrides", {}), "overrides", path), **changes}
    for key in ("seed_everything", "run.name"):
        _refuse_owned(key, overrides, path)
    search = parse_search(content["search"], path) if "search" in content else None
    if search is not None:
        if "grid" in content or "cells" in content:
            raise ConfigError(f"{path}: search makes its own cells: leave out grid and cells")
        if len(seeds) > 1:
            raise ConfigError(f"{path}: seeds={list(seeds)} must be one seed: search trains each trial once")
        for key in search.space:
            _refuse_owned(key, search.space, path)
    changed = list(_changed(content, path))
    if not changed and search is None:
        raise ConfigError(f"{path} has no cells: grid, cells or search must say what they change")
    cells = tuple(
        make_cell(group, values, seed, path) for group, values in _groups(changed, path).items() for seed in seeds
    )
    return Sweep(
        path=path,
        name=name,
        base=str(content["base"]),
        base_path=base,
        seeds=seeds,
        overrides=overrides,
        cells=cells,
        search=search,
    )


def base_of(content: Mapping[str, Any], path: Path) -> Path:
    """Return the base config: relative to the sweep file, or else to the working directory, or a shipped one."""
    base = content.get("base")
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{path}: base={shown(base)} must name the config that the cells change")
    shipped = shipped_configs()
    places = [path.parent / base, Path(base), shipped.get(base, Path(base))]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        near = did_you_mean(base, shipped)
        raise ConfigError(
            f"{path}: base={base}: there is no such file beside {path.name} or in the working directory{near}"
        )
    return found


def words_of(overrides: Mapping[str, Any]) -> list[str]:
    """The options of `minigpt fit`: {"model.n_head": 2} -> ["--model.n_head=2"]."""
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()]


def make_cell(group: str, overrides: dict[str, Any], seed: int, path: Path) -> Cell:
    """Make the cell of a group and a seed."""
    name = f"{group},seed={seed}"
    if len(name.encode()) > _LONGEST_NAME:
        raise ConfigError(
            f"{path}: a cell's name is too long for a folder ({name[:60]}...): give it a name of your own"
        )
    return Cell(name=name, group=group, overrides=overrides, seed=seed)


def _groups(changed: Sequence[dict[str, Any]], path: Path) -> dict[str, dict[str, Any]]:
    """The overrides of each group, by its name."""
    keys = {key for values in changed for key in values}
    groups: dict[str, dict[str, Any]] = {}
    for values in changed:
        overrides = {key: value for key, value in values.items() if key != "name"}
        for key in overrides:
            _refuse_owned(key, overrides, path)
        group = _group_name(values, overrides, keys, path)
        twin = next((known for known in groups if known.casefold() == group.casefold()), None)
        if twin is not None:
            both = f"{json.dumps(groups[twin], default=str)} and {json.dumps(overrides, default=str)}"
            raise ConfigError(f"{path}: two cells have the name {group}: {both}")
        groups[group] = overrides
    return groups


def _group_name(values: dict[str, Any], overrides: dict[str, Any], keys: set[str], path: Path) -> str:
    name = values.get("name")
    if name is None:
        return ",".join(f"{_short(key, keys)}={_text(value)}" for key, value in overrides.items()) or BASE_GROUP
    if not isinstance(name, str) or not _is_plain(name):
        raise ConfigError(f"{path}: a cell's name={name!r} must be a plain folder name")
    if (name == BASE_GROUP) != (not overrides):
        raise ConfigError(f"{path}: name={name}: {BASE_GROUP} is the cell that changes nothing, and no other")
    return name


def _short(key: str, keys: set[str]) -> str:
    """The last part of a key if that is unique; `optim.name` becomes `optim`."""
    group, _, leaf = key.rpartition(".")
    if leaf == "name":
        return group
    return leaf if sum(other.rpartition(".")[2] == leaf for other in keys) == 1 else key


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "_"


def _changed(content: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """The overrides of all combinations in `grid`, then those in `cells`."""
    if "grid" in content:
        grid = _dotted(content["grid"], "grid", path)
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(f"{path}: grid: {key}={shown(values)} must be a list of values, at least one")
        if not grid:
            raise ConfigError(f"{path}: grid is empty: {{KEY: [VALUE, ...]}}")
        yield from (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    if "cells" in content:
        cells = content["cells"]
        if not isinstance(cells, list) or not cells:
            raise ConfigError(
                f"{path}: cells={shown(cells)} must be a list of overrides, at least one; {{}} is the base"
            )
        yield from (_dotted(values, "cells", path) for values in cells)


def _dotted(values: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: {what}: {shown(values)} must be a mapping of dotted keys, as {{optim.lr: 1.0e-3}}")
    for key, value in values.items():
        if isinstance(value, dict) and "." not in key:
            inner = next(iter(value), "KEY")
            raise ConfigError(f"{path}: {what}: {key} is a group of settings: write {key}.{inner}")
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{path}: {what}: {key}={shown(value)} must be plain; a text goes in quotes") from None
    return dict(values)


def _seeds(seeds: Any, path: Path) -> tuple[int, ...]:
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"{path}: seeds={shown(seeds)} must be a list of whole numbers, at least one")
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: seeds={shown(seeds)}: {twice} occurs twice")
    return tuple(seeds)


def _refuse_owned(key: str, given: Mapping[str, Any], path: Path) -> None:
    if key in given and key in _OWNED:
        raise ConfigError(f"{path}: {key} is not set by hand: {_OWNED[key]}")


def _is_plain(name: str) -> bool:
    plain = bool(name) and name == PurePath(name).name and name not in {".", ".."}
    return plain and name.isprintable() and not name.startswith(("-", "."))

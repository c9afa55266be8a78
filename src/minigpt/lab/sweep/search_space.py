"""The `search` part of a sweep file: trials, search space and metric. Does not import optuna."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from minigpt.errors import ConfigError, did_you_mean, shown

Direction = Literal["minimize", "maximize"]
PrunerName = Literal["median", "hyperband", "none"]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers from `low` to `high`, inclusive; integers if both are integers."""

    low: float
    high: float
    log: bool = False
    """Draw uniformly on a logarithmic scale."""
    step: int = 1
    """For integers: low, low + step, ... up to high."""

    @property
    def whole(self) -> bool:
        """Whether the dimension is of integers."""
        return type(self.low) is type(self.high) is int


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of a list of values."""

    choices: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The search space, the metric and the number of trials."""

    space: dict[str, Numbers | Choices]
    """The values of each setting, by dotted key."""
    trials: int = 20
    metric: str = "val/loss"
    """A column of metrics.csv; its last value is the result of the trial."""
    direction: Direction = "minimize"
    pruner: PrunerName = "median"
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for sweep.json."""
        return asdict(self)


def parse_search(content: Any, path: Path) -> SearchSpace:
    """Read the `search` of the sweep file `path`; raises ConfigError, one line."""
    values = _fields(content, "search", [field.name for field in fields(SearchSpace)], path)
    space = values.get("space")
    if not isinstance(space, dict) or not space:
        raise ConfigError(f"{path}: search.space={shown(space)} must be a mapping of settings: {{KEY: {{low, high}}}}")
    read = {str(key): _dimension(str(key), value, path) for key, value in space.items()}
    search = SearchSpace(**{**values, "space": read})
    for name, least in (("trials", 1), ("seed", 0)):
        value = getattr(search, name)
        if type(value) is not int or value < least:
            raise ConfigError(f"{path}: search.{name}={shown(value)} must be a whole number, at least {least}")
    for name, choices in (("direction", get_args(Direction)), ("pruner", get_args(PrunerName))):
        value = getattr(search, name)
        if value not in choices:
            near = did_you_mean(str(value), choices)
            raise ConfigError(f"{path}: search.{name}={shown(value)} must be one of {', '.join(choices)}{near}")
    if not isinstance(search.metric, str) or not search.metric:
        raise ConfigError(f"{path}: search.metric={shown(search.metric)} must be a column of metrics.csv: val/loss")
    return search


def _dimension(key: str, content: Any, path: Path) -> Numbers | Choices:
    where = f"search.space: {key}"
    values = _fields(content, where, ["low", "high", "log", "step", "choices"], path)
    if "choices" in values:
        choices = values["choices"]
        if len(values) > 1 or not isinstance(choices, list) or not choices:
            raise ConfigError(f"{path}: {where} must be choices: [VALUE, ...] alone, or low and high")
        if not all(isinstance(choice, str | int | float | None) for choice in choices):
            raise ConfigError(f"{path}: {where}: choices={shown(choices)} must be numbers, texts, true, false or null")
        return Choices(choices=tuple(choices))
    bounds = [_number(values.get(name), f"{where}: {name}", path) for name in ("low", "high")]
    given = {name: values[name] for name in ("log", "step") if name in values}
    numbers = Numbers(low=bounds[0], high=bounds[1], **given)
    if type(numbers.log) is not bool:
        raise ConfigError(f"{path}: {where}: log={shown(numbers.log)} must be true or false")
    if not numbers.low < numbers.high or (numbers.log and numbers.low <= 0):
        rule = "0 < low < high" if numbers.log else "low < high"
        raise ConfigError(f"{path}: {where}: low={numbers.low:g}, high={numbers.high:g} must be {rule}")
    if "step" in given:
        _check_step(numbers, f"{path}: {where}")
    return numbers


def _check_step(numbers: Numbers, where: str) -> None:
    """Raise ConfigError, starting with `where`, unless the steps lead from one bound to the other."""
    step = numbers.step
    if not numbers.whole or numbers.log:
        raise ConfigError(f"{where}: step={shown(step)} is for whole numbers: low and high without a point, and no log")
    if type(step) is not int or step < 1 or (numbers.high - numbers.low) % step:
        raise ConfigError(
            f"{where}: step={shown(step)} must be a whole number that divides high - low = "
            f"{numbers.high - numbers.low:g}, at least 1"
        )


def _number(value: Any, what: str, path: Path) -> float:
    """Convert to a number; YAML 1.1 reads `1e-4`, without a point, as a string."""
    try:
        return value if type(value) in (int, float) else float(str(value))
    except ValueError:
        raise ConfigError(f"{path}: {what}={shown(value)} must be a number") from None


def check_keys(content: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    """Raise ConfigError, starting with `where`, for the first key that is not in `keys`."""
    for key in content:
        if key not in keys:
            raise ConfigError(f"{where}: unknown key {key}{did_you_mean(str(key), keys) or ': ' + ', '.join(keys)}")


def _fields(content: Any, what: str, keys: list[str], path: Path) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: {what}={shown(content)} must be a mapping of {', '.join(keys)}")
    check_keys(content, keys, f"{path}: {what}")
    return content

"""The cells of a sweep as command lines of `minigpt fit`, each checked by the parser that will read it."""

import contextlib
import functools
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.cli.keys import check_names
from minigpt.errors import CheckpointError, ConfigError, DataError, did_you_mean
from minigpt.lab.sweep.file import Cell, Sweep, words_of
from minigpt.lab.sweep.search_space import Choices, Numbers, SearchSpace
from minigpt.runs.metrics_csv import CURVES

if TYPE_CHECKING:
    from minigpt.data.tokenizers import Tokenizer
    from minigpt.lab.sweep.cell import CellRun
    from minigpt.training.config import Experiment

_MOST_COMBINATIONS = 32
_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


class SweepCells:
    """The settings of each cell of a sweep, resolved once for each group: seeds change nothing in them."""

    def __init__(self, sweep: Sweep) -> None:
        """Raises ConfigError if the base config with the overrides for all cells is no config."""
        self.sweep = sweep
        self._resolved: dict[str, Experiment] = {}
        self.base = self._resolve({}, "")
        self.folder = Path(self.base.run.root) / sweep.name

    def check(self) -> None:
        """Raise ConfigError or DataError, one line, for the first cell that no run can be made of."""
        for cell in self.sweep.cells:
            self._resolve(cell.overrides, f"cell {cell.group}: ")
        for seed in self.sweep.seeds:
            if not 0 <= seed < 2**32:
                raise ConfigError(f"{self.sweep.path}: seeds: {seed} must lie between 0 and 2^32 - 1")
        if self.sweep.search:
            self._check_search(self.sweep.search)
        self._refuse_duplicates()
        self._check_texts()
        self._check_trainers()

    def _refuse_duplicates(self) -> None:
        """Raise ConfigError for two groups of the same settings: each would be trained twice."""
        from minigpt.data.token_estimate import content_of

        known: dict[str, str] = {}
        content = functools.cache(content_of)
        for group, overrides in {cell.group: cell.overrides for cell in self.sweep.cells}.items():
            experiment = self._resolve(overrides, "")
            plain, data = experiment.settings(), experiment.data
            plain["data"] |= content(data.corpus, data.text_field, data.tokenizer)  # hashes in place of file names
            settings = json.dumps(plain, sort_keys=True, default=str)
            if settings in known:
                raise ConfigError(
                    f"{self.sweep.path}: cells {known[settings]} and {group} have the same settings: leave one out"
                )
            known[settings] = group

    def _check_texts(self) -> None:
        """Raise DataError for a corpus or a tokenizer that is not there, and for a text that no cell could train on.

        Nothing is prepared or downloaded.
        """
        from minigpt.data.checks import check_corpus, check_text, check_tokenizer

        for name, check in (("corpus", check_corpus), ("tokenizer", check_tokenizer)):
            for value, where in self._texts(name).items():
                try:
                    check(value)
                except DataError as error:
                    raise DataError(f"{self.sweep.path}: {where}{error}") from None
        for overrides, where in self._data_settings():
            experiment = self._resolve(overrides, "")
            try:
                check_text(experiment.data.prepare_options(), _tokenizer_of(experiment.run.init_from))
            except (CheckpointError, DataError) as error:
                raise DataError(f"{self.sweep.path}: {where}{error}") from None

    def _data_settings(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield overrides that give a run a text and a tokenizer of its own, each combination once."""
        if self.sweep.search:
            if not any(key.startswith("data.") for key in self.sweep.search.space):  # else the base's are in no trial
                yield {}, ""
            return
        seen: list[Any] = []
        for cell in self.sweep.cells:
            experiment = self._resolve(cell.overrides, "")
            settings = experiment.data, experiment.run.init_from
            if settings not in seen:
                seen.append(settings)
                yield cell.overrides, f"cell {cell.group}: "

    def _texts(self, name: str) -> dict[str, str]:
        """Return each value of `data.NAME` that a run has, and the cell that sets it; the base's may be unused."""
        key, usual = f"data.{name}", getattr(self.base.data, name)
        if self.sweep.search:
            tried = self.sweep.search.space.get(key)
            return {usual: ""} if tried is None else {str(value): "search.space: " for value in _tried(tried)}
        found: dict[str, str] = {}
        for cell in self.sweep.cells:
            value = getattr(self._resolve(cell.overrides, "").data, name)
            found.setdefault(value, f"cell {cell.group}: " if key in cell.overrides else "")
        return found

    def _check_search(self, search: SearchSpace) -> None:
        """Raise ConfigError for a metric that no run writes, and for a choice or a bound that no trial could have."""
        metric = search.metric
        is_lightnings = metric.replace("_", "/", 1) in CURVES  # val_loss, a name that no column has
        evaluated = metric.startswith("eval/") and self.base.run.evaluations
        # Callbacks may write any column.
        if metric not in CURVES and not evaluated and (is_lightnings or not self.base.trainer.get("callbacks")):
            near = did_you_mean(metric, CURVES)
            raise ConfigError(f"{self.sweep.path}: search.metric={metric} must be one of {', '.join(CURVES)}{near}")
        tried = {key: _tried(what) for key, what in search.space.items()}
        for key, values in tried.items():
            where = f"search.space: {key}"
            try:
                check_names(words_of({key: values[0]}))
            except ConfigError as error:  # which no other setting can put right
                raise ConfigError(f"{self.sweep.path}: {where}: {error}") from None
            others = {other: tried[other] for other in tried if other != key}
            for value in values:
                self._check_value(key, value, others)

    def _check_value(self, key: str, value: Any, others: Mapping[str, Sequence[Any]]) -> None:
        """Raise ConfigError if `value` is wrong in the base, alone and together with any of `others`.

        Three heads may be wrong alone, and right with a width that is in the search as well.
        """
        try:
            self._resolve({key: value}, f"search.space: {key}={value}: ")
        except ConfigError:
            for beside in _combinations(others):
                with contextlib.suppress(ConfigError):
                    self._resolve({**beside, key: value}, "")
                    return
            raise

    def make_run(self, cell: Cell) -> "CellRun":
        """Return how the cell is trained; raises ConfigError for settings of a search that do not go together."""
        from minigpt.cli.yaml_files import dump
        from minigpt.lab.sweep.cell import CellRun
        from minigpt.lab.sweep.folder import BASE

        experiment = self._resolve(cell.overrides, f"cell {cell.name}: ")
        run = replace(experiment.run, name=cell.name, root=str(self.folder))
        return CellRun(
            name=cell.name,
            workplace=str(Path.cwd()),
            folder=str(self.folder / cell.name),
            words=(
                "fit",
                *self._words(self.folder / BASE, cell.overrides),
                f"--run.name={cell.name}",
                f"--run.root={self.folder}",
                f"--seed_everything={cell.seed}",
                "--ckpt_path=last",
            ),
            max_steps=experiment.trainer["max_steps"],
            config_yaml=dump(replace(experiment, seed_everything=cell.seed, run=run).settings()),
        )

    def _words(self, config: Path, overrides: Mapping[str, Any]) -> list[str]:
        return [f"--config={config}", *words_of({**self.sweep.overrides, **overrides})]

    def _resolve(self, overrides: Mapping[str, Any], where: str) -> "Experiment":
        from minigpt.cli.experiment import read_experiment

        known = json.dumps(overrides, sort_keys=True)
        if known not in self._resolved:
            try:
                self._resolved[known] = read_experiment(self._words(self.sweep.base_path, overrides))
            except ConfigError as error:
                raise ConfigError(f"{self.sweep.path}: {where}{error}") from None
        return self._resolved[known]

    def _check_trainers(self) -> None:
        """Check each group's trainer settings once, by lightning only where needed: importing it takes seconds."""
        from minigpt.cli.experiment import check_trainer

        seen = set()
        for overrides, experiment in self._resolved.items():
            trainer = json.dumps(experiment.trainer, sort_keys=True, default=str)
            if trainer in seen or _is_plain(experiment.trainer):
                continue
            seen.add(trainer)
            try:
                check_trainer(self._words(self.sweep.base_path, json.loads(overrides)))
            except ConfigError as error:
                raise ConfigError(f"{self.sweep.path}: {overrides}: {error}") from None


def _tokenizer_of(init_from: str | None) -> "Tokenizer | None":
    """Return the tokenizer of the weights that a run starts from, which takes precedence over that of its config."""
    from minigpt.runs.checkpoint import find_checkpoint, read_checkpoint

    return read_checkpoint(find_checkpoint(init_from)).tokenizer if init_from else None


def _tried(what: Numbers | Choices) -> Sequence[Any]:
    """Return the values of a dimension of the search that are checked beforehand."""
    return what.choices if isinstance(what, Choices) else (what.low, what.high)


def _combinations(dimensions: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield all combinations, or a random sample where there are many: each takes a tenth of a second to check."""
    if math.prod(len(values) for values in dimensions.values()) <= _MOST_COMBINATIONS:
        yield from (dict(zip(dimensions, values, strict=True)) for values in itertools.product(*dimensions.values()))
        return
    draw = random.Random(0)
    for _ in range(_MOST_COMBINATIONS):
        yield {key: draw.choice(values) for key, values in dimensions.items()}


def _is_plain(trainer: Mapping[str, Any]) -> bool:
    """Whether all that differs from the defaults is what `read_experiment` has checked, or the device."""
    from minigpt.training.config import TRAINER_DEFAULTS

    checked = {"max_steps", "accumulate_grad_batches", "gradient_clip_val"}
    others = {key: value for key, value in trainer.items() if key not in checked and value != TRAINER_DEFAULTS.get(key)}
    accelerator, devices = others.pop("accelerator", "auto"), others.pop("devices", 1)
    return not others and accelerator in _ACCELERATORS and type(devices) is int and devices > 0

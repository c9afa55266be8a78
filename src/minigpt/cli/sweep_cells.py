"""The cells of a sweep as command lines of `minigpt fit`, each checked by the parser that will read it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.errors import ConfigError
from minigpt.study.search_space import Choices
from minigpt.study.sweep_file import Cell, Sweep, words_of

if TYPE_CHECKING:
    from minigpt.study.sweep_cell import CellRun

_ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


class SweepCells:
    """What each cell of a sweep comes to. Settings are resolved once for each group: seeds change nothing in them."""

    def __init__(self, sweep: Sweep) -> None:
        """Raises ConfigError if the base config with the overrides for all cells is no config."""
        self.sweep = sweep
        self._resolved: dict[str, dict[str, Any]] = {}
        self.base = self._resolve({}, "")
        self.folder = Path(self.base["run"]["root"]) / sweep.name

    def check(self) -> None:
        """Raise ConfigError, one line, for the first cell that no run can be made of."""
        for cell in self.sweep.cells:
            self._resolve(cell.overrides, f"cell {cell.group}: ")
        for seed in self.sweep.seeds:
            if not 0 <= seed < 2**32:
                raise ConfigError(f"{self.sweep.path}: seeds: {seed} must lie between 0 and 2^32 - 1")
        if self.sweep.search:
            for key, what in self.sweep.search.space.items():
                for value in what.choices if isinstance(what, Choices) else (what.low, what.high):
                    self._resolve({key: value}, f"search.space: {key}={value}: ")
        self._check_trainers()

    def make_run(self, cell: Cell) -> "CellRun":
        """How the cell is trained."""
        from minigpt.cli.parsing import dump
        from minigpt.study.sweep_cell import CellRun
        from minigpt.study.sweep_folder import BASE

        settings = self._resolve(cell.overrides, f"cell {cell.name}: ")
        run = {**settings["run"], "name": cell.name, "root": str(self.folder)}
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
            max_steps=settings["trainer"]["max_steps"],
            config_yaml=dump({**settings, "seed_everything": cell.seed, "run": run}),
        )

    def _words(self, config: Path, overrides: Mapping[str, Any]) -> list[str]:
        return [f"--config={config}", *words_of({**self.sweep.overrides, **overrides})]

    def _resolve(self, overrides: Mapping[str, Any], where: str) -> dict[str, Any]:
        from minigpt.cli.parsing import resolve

        known = json.dumps(overrides, sort_keys=True)
        if known not in self._resolved:
            try:
                self._resolved[known] = resolve(self._words(self.sweep.base_path, overrides))
            except ConfigError as error:
                raise ConfigError(f"{self.sweep.path}: {where}{error}") from None
        return self._resolved[known]

    def _check_trainers(self) -> None:
        """Each group of trainer settings once, and with lightning only where it may know better: that takes seconds."""
        from minigpt.cli.parsing import check_trainer

        seen = set()
        for overrides, settings in self._resolved.items():
            trainer = json.dumps(settings["trainer"], sort_keys=True, default=str)
            if trainer in seen or _is_plain(settings["trainer"]):
                continue
            seen.add(trainer)
            try:
                check_trainer(self._words(self.sweep.base_path, json.loads(overrides)))
            except ConfigError as error:
                raise ConfigError(f"{self.sweep.path}: {overrides}: {error}") from None


def _is_plain(trainer: Mapping[str, Any]) -> bool:
    """Whether all that differs from the defaults is what `resolve` has checked, or the device."""
    from minigpt.training.config import TRAINER_DEFAULTS

    checked = {"max_steps", "accumulate_grad_batches", "gradient_clip_val"}
    others = {key: value for key, value in trainer.items() if key not in checked and value != TRAINER_DEFAULTS.get(key)}
    accelerator, devices = others.pop("accelerator", "auto"), others.pop("devices", 1)
    return not others and accelerator in _ACCELERATORS and type(devices) is int and devices > 0

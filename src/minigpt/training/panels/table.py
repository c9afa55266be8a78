"""The panels by name, and the callback that shows those of a run."""

import gc
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib import rc_context
from torch.optim import Optimizer

from minigpt.system.matmul import synchronize
from minigpt.training.loggers.tensorboard import RunTensorBoard
from minigpt.training.module import GPTModule
from minigpt.training.panels.attention import AttentionPanel
from minigpt.training.panels.calibration import CalibrationPanel
from minigpt.training.panels.frequency import FrequencyPanel
from minigpt.training.panels.histograms import HistogramsPanel
from minigpt.training.panels.names import PanelName
from minigpt.training.panels.panel import LOOK, Look, Panel, PanelSource
from minigpt.training.panels.position import PositionPanel
from minigpt.training.panels.ratios import RatiosPanel
from minigpt.training.panels.samples import SamplesPanel
from minigpt.training.position import EveryStep, TrainingClock

PANELS: dict[PanelName, type[Panel]] = {
    "attention": AttentionPanel,
    "histograms": HistogramsPanel,
    "ratios": RatiosPanel,
    "position": PositionPanel,
    "frequency": FrequencyPanel,
    "calibration": CalibrationPanel,
    "samples": SamplesPanel,
}

_COST_PLACES = ("predictions", *PANELS)
"""Titles of the cost curves in their chart."""


class Panels(EveryStep):
    """Show each panel every so many steps and at the last one, in the first process, and measure what that costs.

    No bit of the training changes: the model is in eval mode meanwhile, and nothing random of torch's is drawn.
    """

    def __init__(self, intervals: Mapping[PanelName, int], source: PanelSource, clock: TrainingClock) -> None:
        """`intervals`: the panels to show, and their report intervals in steps."""
        self.intervals = intervals
        self.source = source
        self.clock = clock
        self.panels = {name: PANELS[name](source) for name in intervals}
        self.costs: dict[str, list[float]] = defaultdict(list)
        """Milliseconds of each look by panel, and `predictions`: reading the validation batches for those that do."""
        self._before: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell TensorBoard which curves belong into one chart."""
        super().on_train_start(trainer, pl_module)
        charts = [chart for panel in self.panels.values() for chart in panel.charts] + ["panel_ms"]
        for board in self._boards(trainer) if trainer.is_global_zero else []:
            board.experiment.add_custom_scalars({"panels": {chart: ["Multiline", [f"{chart}/.*"]] for chart in charts}})

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Tell the panels that are due after this update."""
        assert isinstance(pl_module, GPTModule)
        for name in self._due(trainer, trainer.global_step + 1):
            with self._timed(pl_module.device) as spent:
                self.panels[name].before_update(pl_module.gpt)
            self._before[name] = spent[0]

    def on_step(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        """Show the panels that are due."""
        assert isinstance(pl_module, GPTModule)
        boards, due = self._boards(trainer), self._due(trainer, step)
        if not (due and boards):
            return
        look = Look(pl_module.gpt, step, boards[0], self.source)
        pl_module.gpt.eval()
        shows: dict[str, Callable[[], object]] = {name: partial(self.panels[name].show, look) for name in due}
        if any(self.panels[name].reads_predictions for name in due):
            shows = {"predictions": lambda: look.predictions} | shows
        for name, show in shows.items():
            with self._timed(pl_module.device) as spent, torch.no_grad(), rc_context(LOOK):
                show()
            self.costs[name].append(spent[0] + self._before.pop(name, 0.0))
            look.line(f"panel_ms/{name}", self.costs[name][-1], _COST_PLACES.index(name))
        pl_module.gpt.train()
        with self.clock.pause():
            gc.collect()  # matplotlib's figures are cycles, which nothing collects during the steps

    def summary(self) -> str:
        """The median cost of each panel: `attention 41 ms every 100 steps, ...`. Empty if none was shown."""
        every: dict[str, str] = {name: f" every {steps:,} steps" for name, steps in self.intervals.items()}
        return ", ".join(
            f"{name} {statistics.median(costs):.0f} ms{every.get(name, '')}" for name, costs in self.costs.items()
        )

    def _boards(self, trainer: Trainer) -> list[RunTensorBoard]:
        return [logger for logger in trainer.loggers if isinstance(logger, RunTensorBoard)]

    def _due(self, trainer: Trainer, step: int) -> list[PanelName]:
        if not trainer.is_global_zero:
            return []
        return [name for name, every in self.intervals.items() if step % every == 0 or step == trainer.max_steps]

    @contextmanager
    def _timed(self, device: torch.device) -> Iterator[list[float]]:
        """Milliseconds of the block, which the training's clock does not count; waits for a GPU before and after."""
        spent: list[float] = []
        with self.clock.pause():
            synchronize(device)
            began = time.perf_counter()
            yield spent
            synchronize(device)
            spent.append(1000 * (time.perf_counter() - began))

"""TensorBoard: the curves as scalars, the config and the samples as text, the settings with their final loss as
hparams."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from minigpt.runs.paths import LINES
from minigpt.system.output import well_formed
from minigpt.training.loggers.event_files import cut_events


class RunTensorBoard(TensorBoardLogger):
    """Events straight in the run's folder, continued by a resumed run.

    `resume_step` is the step of the checkpoint that a run goes on from: the points beyond it are removed, and a
    TensorBoard that has read them already is told to forget them, as the resumed run writes them again.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        self._resume_step = resume_step
        self._lines: dict[str, SummaryWriter] = {}
        purge_step = None if resume_step is None else resume_step + 1
        super().__init__(folder.parent, name=folder.name, version="", default_hp_metric=False, purge_step=purge_step)

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer. The files are cut back when it is made, not before: until training begins, it may turn out that
        another process is at work in this folder."""
        if self._experiment is None and self._resume_step is not None:
            for folder in (Path(self.log_dir), *(Path(self.log_dir, name) for name in LINES)):
                cut_events(folder, self._resume_step)
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """All curves of a step as one event: each event wakes the thread that writes it, which the step waits for."""
        if any(isinstance(value, dict) for value in metrics.values()):  # from a callback of the config
            super().log_metrics(dict(metrics), step)
            return
        values = [Summary.Value(tag=well_formed(name), simple_value=float(value)) for name, value in metrics.items()]
        self.experiment._get_file_writer().add_summary(Summary(value=values), step)

    @rank_zero_only
    def log_line(self, tag: str, value: float, step: int, place: int) -> None:
        """A point of the curve at `place` among those of its chart in CUSTOM SCALARS, which gives each run a colour."""
        name = LINES[place % len(LINES)]
        if name not in self._lines:
            purge_step = None if self._resume_step is None else self._resume_step + 1
            self._lines[name] = SummaryWriter(str(Path(self.log_dir, name)), purge_step=purge_step)
        self._lines[name].add_scalar(well_formed(tag), value, step)

    @rank_zero_only
    def save(self) -> None:
        """Flush the events. The settings are in config.yaml: Lightning's hparams.yaml beside it would say it twice."""
        for writer in (self.experiment, *self._lines.values()):
            writer.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files."""
        super().finalize(status)
        for writer in self._lines.values():
            writer.close()

    @rank_zero_only
    def log_text(self, tag: str, text: str, step: int) -> None:
        """Show `text` as it is, in a fixed-width font."""
        indented = "\n".join(f"    {line}" for line in well_formed(text).split("\n"))
        self.experiment.add_text(tag, indented, step)

    @rank_zero_only
    def log_settings(self, settings: dict[str, Any], curves: list[str]) -> None:
        """Put the settings into the HPARAMS tab, which shows the newest point of the `curves` beside them."""
        writer = self.experiment._get_file_writer()
        for summary in hparams({name: _plain(value) for name, value in settings.items()}, dict.fromkeys(curves, 0.0)):
            writer.add_summary(summary)


def _plain(value: Any) -> Any:
    """A value as the HPARAMS tab can show it."""
    return value if isinstance(value, bool | int | float) else well_formed(str(value))

"""The interface of a panel: it inspects a model after a step and writes to TensorBoard."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from minigpt.data.batches import ValidationBatches
from minigpt.data.prepared import Prepared
from minigpt.data.tokenizers import Tokenizer
from minigpt.evaluate.predictions import Predictions, predict
from minigpt.generate.text import encode_prompt
from minigpt.model.gpt import GPT
from minigpt.training.loggers.tensorboard import RunTensorBoard


@dataclass(frozen=True, kw_only=True, eq=False)
class PanelSource:
    """The inputs of a run's panels, fixed from its first step to its last."""

    prepared: Prepared
    batches: ValidationBatches
    """Those of a validation, all of them."""
    heads: tuple[tuple[int, int], ...]
    """(layer, head), counted from 0, that are shown large."""
    sentence: str | None
    """The text that activations are shown of; None is the beginning of the validation split."""
    prompt: str
    temperatures: tuple[float, ...]

    @property
    def tokenizer(self) -> Tokenizer:
        """That of the run."""
        return self.prepared.tokenizer

    @cached_property
    def tokens(self) -> Tensor:
        """(1, T) int64: the first window of the sentence, or a part of the validation split short enough to look at."""
        block_size = self.batches[0][0].shape[1]
        if self.sentence is None:
            return self.batches[0][0][:1, :LOOK_AT]
        return torch.tensor([encode_prompt(self.tokenizer, self.sentence)[:block_size]])


LOOK_AT = 32
"""Tokens that are still legible beside a map."""


class Look:
    """One look at a model in eval mode, for all panels that are due."""

    def __init__(self, model: GPT, step: int, board: RunTensorBoard, source: PanelSource) -> None:
        self.model = model
        self.step = step
        self.board = board
        self.source = source

    @cached_property
    def tokens(self) -> Tensor:
        """(1, T): the sentence, on the model's device."""
        return self.source.tokens.to(self.model.token_embedding.weight.device)

    @cached_property
    def predictions(self) -> Predictions:
        """Those of the validation batches, computed once for all panels that are due."""
        batches = self.source.batches
        return predict(self.model, (batches[number] for number in range(len(batches))))

    def scalar(self, tag: str, value: float) -> None:
        """A point of a curve."""
        self.board.experiment.add_scalar(tag, value, self.step)

    def line(self, tag: str, value: float, place: int) -> None:
        """A point of the curve at `place` in a chart of several."""
        self.board.log_line(tag, value, self.step, place)

    def histogram(self, tag: str, values: Tensor) -> None:
        """Write a histogram of a tensor; of more than MOST_VALUES numbers, those at even distances."""
        flat = values.detach().flatten()
        flat = flat[:: max(1, -(-len(flat) // MOST_VALUES))].float()
        if len(flat) and bool(flat.isfinite().all()):  # TensorBoard's would end the run
            self.board.experiment.add_histogram(tag, flat.cpu(), self.step)

    def text(self, tag: str, text: str) -> None:
        """A text as it is."""
        self.board.log_text(tag, text, self.step)

    def picture(self, tag: str, figure: Figure) -> None:
        """A matplotlib figure as an image."""
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]  # (height, width, 3)
        self.board.experiment.add_image(tag, pixels, self.step, dataformats="HWC")


THUMBNAIL = 4.4
"""Inches of the width of a figure whose words can still be read where TensorBoard shows it small."""
TITLE_SIZE = 13
LOOK: dict[Any, Any] = {"font.size": 11, "axes.titlesize": TITLE_SIZE, "axes.titleweight": "bold"}
"""matplotlib's settings for all pictures of panels."""
MOST_VALUES = 2**16
"""Numbers in a histogram: a shape is no clearer with more of them, and TensorBoard counts them one by one."""


class Panel(ABC):
    """One thing to show. It keeps nothing that a resumed run would miss, and draws no random number of training."""

    charts: tuple[str, ...] = ()
    """Groups of curves that the tab CUSTOM SCALARS draws in one chart each: what is compared belongs together."""
    reads_predictions = False
    """Whether it asks a look for its `predictions`, which all panels share and which are no cost of its own."""

    def __init__(self, source: PanelSource) -> None:
        """`source`: what there is to show."""
        self.source = source

    def before_update(self, model: GPT) -> None:  # noqa: B027 - most panels need nothing of it
        """Called before the update of the step that `show` is for."""

    @abstractmethod
    def show(self, look: Look) -> None:
        """Write what there is to see after a step."""

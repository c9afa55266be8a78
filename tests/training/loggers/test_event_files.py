"""No reader of TensorBoard's event files gets a point twice after a resume, whatever its kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from minigpt.training.fit import fit
from minigpt.training.loggers.event_files import cut_events
from training.tiny import tiny_experiment

KINDS = {"scalars": "loss", "histograms": "weights", "images": "picture", "tensors": "text/text_summary"}


def write(folder: Path, steps: range, purge_step: int | None = None, session: int = 1) -> None:
    """Write the event file of a session, named as if it had begun a second after the one before it.

    Readers sort by name: of two files of one second that torch numbers 9 and 10, the later one would come first.
    """
    before = set(folder.glob("*tfevents*"))
    with SummaryWriter(str(folder), purge_step=purge_step) as writer:
        for step in steps:
            writer.add_scalar("loss", float(step), step)
            writer.add_histogram("weights", np.arange(5.0), step)
            writer.add_image("picture", np.zeros((3, 2, 2)), step)
            writer.add_text("text", f"step {step}", step)
    (path,) = set(folder.glob("*tfevents*")) - before
    path.rename(folder / f"events.out.tfevents.{1_700_000_000 + session}.host.1.0")


def steps(folder: Path) -> dict[str, list[int]]:
    """Kind -> the steps of its points, as a notebook reads them."""
    events = EventAccumulator(str(folder), size_guidance=dict.fromkeys(KINDS, 0))
    events.Reload()
    read: dict[str, Callable[[str], Any]] = {
        "scalars": events.Scalars, "histograms": events.Histograms, "images": events.Images, "tensors": events.Tensors
    }  # fmt: skip
    return {kind: [event.step for event in read[kind](tag)] for kind, tag in KINDS.items()}


def test_nothing_beyond_the_step_is_left(tmp_path: Path) -> None:
    write(tmp_path, range(1, 7), session=1)
    cut_events(tmp_path, 4)
    write(tmp_path, range(5, 9), session=2)
    assert steps(tmp_path) == {key: [1, 2, 3, 4, 5, 6, 7, 8] for key in KINDS}
    assert len(list(tmp_path.glob("*tfevents*"))) == 2


def test_what_an_earlier_resume_told_tensorboard_to_forget_goes_too(tmp_path: Path) -> None:
    """As a run has it that was resumed before the files were cut."""
    write(tmp_path, range(1, 7), session=1)
    write(tmp_path, range(5, 9), purge_step=5, session=2)
    assert steps(tmp_path)["tensors"] == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8]
    cut_events(tmp_path, 7)
    assert steps(tmp_path) == {key: [1, 2, 3, 4, 5, 6, 7] for key in KINDS}


def test_files_without_anything_beyond_stay_as_they_are(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_text("text", "step 3", 3)
    (path,) = tmp_path.glob("*tfevents*")
    before = path.read_bytes(), path.stat().st_ino
    cut_events(tmp_path, 3)
    assert (path.read_bytes(), path.stat().st_ino) == before


def test_end_that_a_kill_cut_off(tmp_path: Path) -> None:
    write(tmp_path, range(1, 7))
    (path,) = tmp_path.glob("*tfevents*")
    path.write_bytes(path.read_bytes()[:-7])
    cut_events(tmp_path, 4)
    assert steps(tmp_path) == {key: [1, 2, 3, 4] for key in KINDS}


def test_failure_on_the_way_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing beside it that a reader would take for a second one."""
    write(tmp_path, range(1, 7))
    (path,) = tmp_path.glob("*tfevents*")
    before, seen = path.read_bytes(), []

    def replace(temporary: Path, target: Path) -> None:
        seen.append(temporary.name)
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="no space"):
        cut_events(tmp_path, 4)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert "tfevents" not in seen[0]


class FailAfter(Callback):
    """Fail at the end of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            for logger in trainer.loggers:
                logger.save()
            raise RuntimeError("a step failed")


def test_run_that_failed_twice_shows_each_text_once(tmp_path: Path, corpus_file: Path) -> None:
    """Samples at 3, 6, 9, 12; checkpoints at 4 and 8; it fails after 7, then, resumed at 4, once more."""
    for step, start in ((7, None), (7, "last"), (99, "last")):
        callbacks = [FailAfter(step)]
        settings = {"run__sample_every": 3, "run__sample_prompt": "line", "trainer__callbacks": callbacks}
        experiment = tiny_experiment(tmp_path, corpus_file, **settings, run__panels=("samples",), run__panel_every=3)
        if step == 99:
            assert fit(experiment, ckpt_path=start) == 0
        else:
            with pytest.raises(RuntimeError, match="a step failed"):
                fit(experiment, ckpt_path=start)
    events = EventAccumulator(str(tmp_path / "tiny"), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    assert [event.step for event in events.Tensors("sample/text_summary")] == [3, 6, 9, 12]
    assert [event.step for event in events.Tensors("config/text_summary")] == [0, 4]
    assert [event.step for event in events.Scalars("train/loss")] == [2, 4, 6, 8, 10, 12]
    for tag in events.Tags()["tensors"]:
        read = [event.step for event in events.Tensors(tag)]
        assert read == sorted(set(read)), tag

"""The private parts of Lightning that minigpt leans on: should one change, this says which, before a run goes wrong."""

import inspect

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from minigpt.training.callbacks.checkpoints import Checkpoints
from minigpt.training.position import TrainingClock


def test_version_is_the_one_that_was_measured() -> None:
    assert pl.__version__.startswith("2.6.")


def test_counter_of_the_processed_batches_is_there() -> None:
    progress = pl.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, barebones=True
    ).fit_loop.epoch_loop.batch_progress
    assert progress.total.processed == 0


def test_validation_from_within_training_is_what_the_loop_itself_does() -> None:
    """PeriodicValidation.run repeats these lines of the training loop."""
    source = inspect.getsource(_TrainingEpochLoop.on_advance_end)
    for line in (
        "self.trainer.validating = True",
        "first_loop_iter = self.trainer._logger_connector._first_loop_iter",
        "self.val_loop.run()",
        "self.trainer.training = True",
        "self.trainer._logger_connector._first_loop_iter = first_loop_iter",
    ):
        assert line in source


def test_a_batch_counts_as_processed_before_its_callbacks_and_as_completed_after() -> None:
    source = inspect.getsource(_TrainingEpochLoop.advance)
    order = ["increment_processed()", '"on_train_batch_end"', "increment_completed()"]
    places = [source.index(word) for word in order]
    assert places == sorted(places)


def test_checkpoints_are_called_last(tmp_path: object) -> None:
    checkpoints = Checkpoints(tmp_path, every=1, keep=1, header={}, clock=TrainingClock(), check=lambda trainer: None)
    assert isinstance(checkpoints, Checkpoint)
    other = pl.Callback()
    trainer = pl.Trainer(callbacks=[checkpoints, other], logger=False, enable_progress_bar=False, accelerator="cpu")
    assert trainer.callbacks[-1] is checkpoints

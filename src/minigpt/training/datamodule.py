"""The LightningDataModule: prepare the corpus once, stream its batches, and know which one comes next."""

import signal
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from minigpt.data.batches import Batch, EndlessSteps, TrainBatches, TrainOrder, ValidationBatches, Windows
from minigpt.data.prepare import prepare_cached
from minigpt.data.prepared import Prepared
from minigpt.training.config import DataConfig
from minigpt.training.loop import StepLoop
from minigpt.training.position import batches_done, checked_count


class TokenDataModule(pl.LightningDataModule):
    """Batches of a prepared corpus for the Lightning Trainer.

    The training stream has no end: the batch to begin with is `batches_done`, and which windows it holds is a pure
    function of its number and of where the batch size last changed. Validation reads the same first `eval_batches`
    batches each time.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        block_size: int,
        eval_batches: int = 10,
        seed: int = 0,
        prepared: Prepared | None = None,
    ) -> None:
        """`prepared` is data at hand; without it `prepare_data` prepares `config.corpus`."""
        super().__init__()
        self.config = config
        self.block_size = block_size
        self.eval_batches = eval_batches
        self.seed = seed
        self.prepared = prepared
        self._origin = (0, 0)
        self._loaders: list[DataLoader[Batch]] = []

    def prepare_data(self) -> None:
        """Turn the corpus into shards, once on each machine; the second time they are found in the cache."""
        if self.prepared is None:
            prepare_cached(self.config.prepare_options())

    def setup(self, stage: str) -> None:
        """Open the shards and cut them into windows."""
        if self.prepared is None:
            self.prepared = prepare_cached(self.config.prepare_options())
        name = f"data.corpus={self.config.corpus}"
        self.train_windows = Windows(self.prepared.train.shards, self.block_size, name=f"the training part of {name}")
        self.val_windows = Windows(self.prepared.val.shards, self.block_size, name=f"the validation part of {name}")

    def train_dataloader(self) -> DataLoader[Batch]:
        """The endless stream from the batch where the run stands."""
        assert self.trainer is not None
        batches = TrainBatches(
            TrainOrder(self.train_windows, self.seed),
            self.config.batch_size,
            origin=self._origin,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        return self._loader(batches, EndlessSteps(batches_done(self.trainer)))

    def state_dict(self) -> dict[str, int]:
        """Batches and windows of whole optimizer steps: if the batch size changes, neither follows from the other."""
        assert self.trainer is not None
        loop = self.trainer.fit_loop.epoch_loop
        done = batches_done(self.trainer) - (loop.pending if isinstance(loop, StepLoop) else 0)
        batch, window = self._origin
        return {"batches": done, "windows": window + (done - batch) * self.config.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on with the window after the last one that was read, in batches of this command's size."""
        self._origin = (checked_count(state_dict["batches"]), checked_count(state_dict["windows"]))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The first batches of the validation split."""
        assert self.trainer is not None
        batches = ValidationBatches(
            self.val_windows,
            self.config.batch_size,
            self.eval_batches,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        return self._loader(batches, range(len(batches)))

    def _loader(self, batches: Any, steps: Any) -> DataLoader[Batch]:
        """A loader of ready batches: the sampler says which steps, the data set gathers each in one indexed copy."""
        assert self.trainer is not None
        workers = self.config.num_workers
        loader: DataLoader[Batch] = DataLoader(
            batches,
            batch_size=None,
            collate_fn=_as_it_is,
            sampler=steps,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )
        self._loaders.append(loader)
        return loader

    def end_workers(self) -> None:
        """End the processes of all loaders, however training ended.

        An error keeps the loop alive that reads from them, so torch would not end them. Python, when it ends itself,
        would send them a SIGTERM, which they ignore, and wait for ever.
        """
        for loader in self._loaders:
            iterator, loader._iterator = loader._iterator, None
            if isinstance(iterator, _MultiProcessingDataLoaderIter):
                iterator._shutdown_workers()
        self._loaders.clear()


def _as_it_is(batch: Any) -> Any:
    """Collate nothing: the batch is ready."""
    return batch


def _leave_signals_to_the_parent(_worker: int) -> None:
    """A signal to the whole process group must not end a worker under the step that the parent still finishes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""The batches are a pure function of (seed, step, rank, world), without replacement, and nothing crosses a shard."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from minigpt.data.batches import EndlessSteps, TrainBatches, TrainOrder, ValidationBatches, Windows, permute
from minigpt.errors import ConfigError, DataError
from minigpt.system.randomness import mix

BLOCK = 8
GOLDEN_PERMUTATION = [84, 91, 21, 74, 93, 66]


@pytest.fixture
def shards() -> list[np.ndarray]:
    """Three shards whose tokens say where they stand: shard * 1000 + place."""
    return [
        np.arange(0, 203, dtype=np.uint16),
        np.arange(1000, 1009, dtype=np.uint16),
        np.arange(2000, 2077, dtype=np.uint16),
    ]


@pytest.fixture
def order(shards: list[np.ndarray]) -> TrainOrder:
    return TrainOrder(Windows(shards, BLOCK), seed=7)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000, 4097])
def test_permutation_is_one(size: int) -> None:
    assert sorted(permute(np.arange(size), size, mix(3)).tolist()) == list(range(size))


def test_permutations_of_two_keys_differ_and_do_not_keep_neighbours_together() -> None:
    first, second = (permute(np.arange(1000), 1000, mix(key)) for key in (1, 2))
    assert (first == second).mean() < 0.02
    assert (np.abs(np.diff(first)) == 1).mean() < 0.02
    # places are spread evenly: the first half of the order draws from both halves of the text
    assert 0.4 < (first[:500] < 500).mean() < 0.6


def test_permutation_is_found_at_any_place_without_the_others() -> None:
    whole = permute(np.arange(5000), 5000, mix(1))
    assert permute(np.array([4321]), 5000, mix(1)) == whole[4321]


def test_order_is_stable_across_versions_and_machines() -> None:
    """Golden values: should they change, every old run would resume with other data."""
    assert permute(np.arange(6), 100, mix(0)).tolist() == GOLDEN_PERMUTATION


def test_a_window_is_consecutive_and_stays_in_its_shard(order: TrainOrder) -> None:
    tokens = order.read(0, 10 * len(order))
    assert (np.diff(tokens, axis=1) == 1).all()


def test_a_pass_has_no_token_twice_as_a_target(order: TrainOrder) -> None:
    for number in range(20):
        targets = order.read(number * len(order), len(order))[:, 1:].ravel()
        assert len(set(targets.tolist())) == len(targets)


def test_passes_cut_the_text_at_other_places(order: TrainOrder) -> None:
    starts = {tuple(sorted(order.read(number * len(order), len(order))[:, 0].tolist())) for number in range(20)}
    assert len(starts) > 4


def test_every_token_is_reached_over_the_passes(order: TrainOrder, shards: list[np.ndarray]) -> None:
    seen = set(order.read(0, 40 * len(order)).ravel().tolist())
    assert seen == set(np.concatenate(shards).tolist())


def test_batches_equal_any_way_of_asking(order: TrainOrder, shards: list[np.ndarray]) -> None:
    """In order, out of order, over the end of a pass, over the end of a block, from a new object."""
    batches = TrainBatches(order, 6)
    again = TrainBatches(TrainOrder(Windows(shards, BLOCK), seed=7), 6)
    for step in (0, 5, 1000, 2, 682, 683, 5):
        for mine, other in zip(batches[step], again[step], strict=True):
            assert torch.equal(mine, other)
    x, y = batches[3]
    assert x.dtype == torch.int64
    assert x.shape == y.shape == (6, BLOCK)
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_seeds_differ(shards: list[np.ndarray]) -> None:
    first, second = (TrainBatches(TrainOrder(Windows(shards, BLOCK), seed), 6)[0][0] for seed in (1, 2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_global_batch_is_the_same_for_every_world(order: TrainOrder, world: int) -> None:
    for step in (0, 17):
        parts = [TrainBatches(order, 6, rank=rank, world=world)[step][0] for rank in range(world)]
        assert torch.equal(torch.cat(parts), TrainBatches(order, 6)[step][0])


def test_batch_that_the_processes_cannot_share(order: TrainOrder) -> None:
    with pytest.raises(ConfigError, match=r"data.batch_size=6 must be divisible by the number of processes, 4"):
        TrainBatches(order, 6, world=4)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_steps_from_any_start_with_any_workers(order: TrainOrder, workers: int) -> None:
    batches = TrainBatches(order, 4)
    loader = iter(DataLoader(batches, batch_size=None, sampler=EndlessSteps(11), num_workers=workers))
    for step in range(11, 16):
        assert torch.equal(next(loader)[0], batches[step][0])


@pytest.mark.parametrize("world", [1, 2])
def test_validation_reads_each_window_once_in_order(shards: list[np.ndarray], world: int) -> None:
    windows = Windows(shards, BLOCK)
    parts = [ValidationBatches(windows, 4, 1000, rank=rank, world=world) for rank in range(world)]
    targets = torch.cat([y.ravel() for batches in parts for _, y in batches])
    whole = np.concatenate([shard[1 : 1 + (len(shard) - 1) // BLOCK * BLOCK] for shard in shards])
    assert sorted(targets.tolist()) == sorted(whole.tolist())
    assert len(parts[0]) == -(-len(windows) // 4)


def test_validation_takes_the_first_batches(shards: list[np.ndarray]) -> None:
    batches = list(ValidationBatches(Windows(shards, BLOCK), 4, 2))
    assert len(batches) == 2
    assert batches[0][0][:, 0].tolist() == [0, 8, 16, 24]


def test_text_shorter_than_a_window() -> None:
    with pytest.raises(DataError, match=r"the text has 8 tokens, and one window takes 9 \(model.block_size=8"):
        Windows([np.arange(8), np.arange(3)], BLOCK)
    assert len(Windows([np.arange(9)], BLOCK)) == 1

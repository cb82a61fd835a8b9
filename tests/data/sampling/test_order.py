"""Which rank reads which tile, for many worlds, without processes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.data.sampling.order import TrainOrder, epoch_order, rank_slices, validation_batches
from mmae.errors import InputError


@pytest.mark.parametrize("num_tiles", [0, 1, 2, 1000])
def test_an_epoch_is_a_permutation(num_tiles: int) -> None:
    order = epoch_order(num_tiles, seed=3, epoch=5)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(num_tiles))


def test_seeds_and_epochs_differ() -> None:
    orders = [tuple(epoch_order(50, seed, epoch)) for seed, epoch in product((-1, 0, 1), (0, 1, 2))]
    assert len(set(orders)) == len(orders)


def test_the_order_never_changes() -> None:
    # A run begun years ago goes on with these: a change needs another ORDER_VERSION.
    assert epoch_order(12, seed=0, epoch=0).tolist() == [0, 4, 3, 1, 11, 9, 5, 2, 6, 8, 10, 7]
    assert epoch_order(12, seed=7, epoch=3).tolist() == [2, 4, 8, 0, 9, 5, 3, 11, 10, 1, 6, 7]


def test_neighbours_do_not_stay_together() -> None:
    order = epoch_order(10_000, seed=0, epoch=0)
    assert abs(np.corrcoef(np.arange(10_000), order)[0, 1]) < 0.05
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01


def test_only_the_last_incomplete_batch_of_an_epoch_is_dropped() -> None:
    order = TrainOrder(num_tiles=23, global_batch=5, seed=1)
    assert order.steps_per_epoch == 4
    read = [order.global_batch_at(step) for step in range(8)]
    assert [epoch for epoch, _ in read] == [0] * 4 + [1] * 4 == [order.epoch(step) for step in range(8)]
    for epoch in (0, 1):
        tiles = np.concatenate([positions for number, positions in read if number == epoch])
        np.testing.assert_array_equal(tiles, epoch_order(23, 1, epoch)[:20])


def test_one_step_an_epoch_and_one_tile_a_batch() -> None:
    assert TrainOrder(4, 4, 0).steps_per_epoch == 1
    assert sorted(TrainOrder(4, 4, 0).global_batch_at(9)[1]) == [0, 1, 2, 3]
    assert TrainOrder(1, 1, 0).global_batch_at(3)[1].tolist() == [0]


def test_a_cached_order_cannot_be_spoiled() -> None:
    _, positions = TrainOrder(8, 4, 0).global_batch_at(0)
    with pytest.raises(ValueError, match="read-only"):
        positions[0] = 3


def test_too_few_tiles_for_a_batch_are_named() -> None:
    with pytest.raises(InputError, match=r"train\.global_batch=8 .* 7 training tiles: .* train\.global_batch=7"):
        TrainOrder(7, 8, 0)
    with pytest.raises(InputError, match="holds no tiles"):
        TrainOrder(0, 8, 0)


def test_a_micro_step_takes_one_contiguous_part_over_all_ranks() -> None:
    split = BatchSplit(micro=2, accumulation=2, world=3)
    assert [rank_slices(split, rank) for rank in range(3)] == [
        [slice(0, 2), slice(6, 8)],
        [slice(2, 4), slice(8, 10)],
        [slice(4, 6), slice(10, 12)],
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 8), st.integers(1, 6), st.integers(1, 5), st.integers(0, 40), st.integers(0, 100), st.integers(0, 3)
)
def test_every_split_reads_every_tile_once(
    world: int, per_rank: int, micro_batch: int, spare: int, seed: int, epoch: int
) -> None:
    global_batch = world * per_rank
    order = TrainOrder(global_batch + spare, global_batch, seed)
    split = split_global_batch(global_batch, micro_batch, world)
    seen: list[int] = []
    for step in range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch):
        number, positions = order.global_batch_at(step)
        assert number == epoch
        parts = [positions[part] for rank in range(world) for part in rank_slices(split, rank)]
        assert {len(part) for part in parts} == {split.micro}
        # Together the ranks hold exactly the global batch, which does not depend on the world.
        assert sorted(np.concatenate(parts)) == sorted(positions)
        seen += positions.tolist()
    assert len(seen) == len(set(seen)) == order.steps_per_epoch * global_batch
    assert set(seen) <= set(range(order.num_tiles))


@pytest.mark.parametrize(
    ("num_tiles", "micro", "world"), list(product([0, 1, 2, 7, 8, 9, 24, 25], [1, 3, 8], [1, 2, 3, 5]))
)
def test_validation_counts_every_tile_once_with_equally_many_batches(num_tiles: int, micro: int, world: int) -> None:
    ranks = [validation_batches(num_tiles, micro, world, rank) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    counted: list[int] = []
    for positions_B, real_B in (batch for batches in ranks for batch in batches):
        assert positions_B.shape == real_B.shape == (micro,)
        assert positions_B.dtype == np.int64
        assert real_B.dtype == np.bool_
        assert ((positions_B >= 0) & (positions_B < num_tiles)).all()
        counted += positions_B[real_B].tolist()
    assert sorted(counted) == list(range(num_tiles))
    # No round in which every rank only pads.
    assert not ranks[0] or any(batches[-1][1].any() for batches in ranks)

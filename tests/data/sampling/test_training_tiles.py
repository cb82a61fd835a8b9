"""What training takes of shard sets, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmae.config.schema import DataConfig
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import training_positions, training_tiles
from mmae.data.shards.index import Index
from mmae.errors import InputError
from tests.support.tiny_sets import ROWS


def rows(index: Index, **config: object) -> list[int]:
    return [int(row) for row in index.row[training_positions(index, DataConfig(**config), seed=5)]]  # type: ignore[arg-type]


def test_training_takes_the_split_in_stored_order(one: Index) -> None:
    assert rows(one) == ROWS


def test_a_fraction_is_taken_before_the_first_so_many(one: Index, two: Index) -> None:
    half = rows(two, fraction=0.5)
    assert half == sorted(half)
    assert len(half) == 10
    assert rows(two, fraction=0.5, max_tiles=3) == half[:3]
    assert rows(one, max_tiles=2) == ROWS[:2]


def test_another_seed_of_the_order_chooses_the_same_tiles(two: Index) -> None:
    plain, other = (
        training_tiles([ShardSet(two)], DataConfig(fraction=0.5), 5, order_seed) for order_seed in (None, 6)
    )
    assert plain.positions[0].tolist() == other.positions[0].tolist()
    orders = [tiles.order(4).global_batch_at(0)[1].tolist() for tiles in (plain, other)]
    assert orders[0] != orders[1]


def test_a_list_of_tiles_may_be_spread_over_sets(tmp_path: Path, one: Index, two: Index) -> None:
    path = tmp_path / "keys"
    path.write_text("tile-44\ntile-3\ntile-20\n")
    tiles = training_tiles([ShardSet(one), ShardSet(two)], DataConfig(keys=str(path)), seed=0)
    taken = [each.index.row[at].tolist() for each, at in zip(tiles.sets, tiles.positions, strict=True)]
    assert taken == [[3, 20], [44]]
    assert tiles.keys
    path.write_text("tile-3\n")
    assert rows(one, keys=str(path), fraction=0.1) == [3]
    # A set of which nothing is listed is no error.
    assert training_tiles([ShardSet(one), ShardSet(two)], DataConfig(keys=str(path)), 0).mixture.num_slots == 1


def test_unknown_tiles_are_counted_and_the_first_is_named(tmp_path: Path, one: Index) -> None:
    path = tmp_path / "keys"
    path.write_text("tile-3\nzebra\ntile-100\n")  # row 100 is validated on
    with pytest.raises(InputError, match=r"keys: 2 of its 3 tile ids are not in the train split of .*one, .* 'zebra'"):
        rows(one, keys=str(path))


def test_positions_are_those_of_each_index(one: Index, two: Index) -> None:
    tiles = training_tiles([ShardSet(one), ShardSet(two)], DataConfig(weights=(2, 0.5)), seed=1)
    places = tiles.locate(3, np.arange(tiles.mixture.num_slots))
    assert len(places) == 7 * 2 + 10
    assert [int(one.row[at]) for at in places.tile_B[:7]] == ROWS
    assert {int(two.row[at]) for at in places.tile_B[14:]} < set(range(40, 60))


@pytest.mark.parametrize(("count", "expected"), [(3, (1, 2)), (1, (0, 1)), (27, (7, 20)), (1000, (7, 20))])
def test_a_sample_takes_each_set_in_proportion_to_its_share_of_an_epoch(
    one: Index, two: Index, count: int, expected: tuple[int, int]
) -> None:
    places = training_tiles([ShardSet(one), ShardSet(two)], DataConfig(), 0).sample(count)
    assert tuple(np.bincount(places.set_B, minlength=2).tolist()) == expected


def test_a_window_reads_whole_shards(two: Index) -> None:
    tiles = training_tiles([ShardSet(two)], DataConfig(window=1), seed=0)
    _, slots = tiles.order(20).global_batch_at(0)
    shards = two.shard[tiles.locate(0, slots).tile_B].reshape(4, 5)
    assert sorted(shards[:, 0].tolist()) == [0, 1, 2, 3]
    assert (shards == shards[:, :1]).all()


def test_a_window_of_all_shards_is_the_full_shuffle(two: Index) -> None:
    plain, wide = (training_tiles([ShardSet(two)], DataConfig(window=window), seed=3) for window in (None, 4))
    for step in range(5):
        assert plain.order(6).global_batch_at(step)[1].tolist() == wide.order(6).global_batch_at(step)[1].tolist()


def test_shards_of_other_splits_take_no_place_in_a_window(one: Index) -> None:
    tiles = training_tiles([ShardSet(one)], DataConfig(window=3), seed=0)
    plain = training_tiles([ShardSet(one)], DataConfig(), seed=0)
    assert tiles.order(7).global_batch_at(4)[1].tolist() == plain.order(7).global_batch_at(4)[1].tolist()

"""A requested micro-batch, read from two sets into arrays, with and without damaged tiles."""

from __future__ import annotations

import numpy as np
import pytest

from mmae.data.loading.micro_batches import MicroBatches
from mmae.data.sampling.batch_requests import Request
from mmae.data.sampling.mixture import Places
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.shards.index import Index
from mmae.data.shards.reader import DamagedTile
from mmae.draws import draw_rows, tile_keys
from tests.support.tiny_sets import DATASETS, damage, pixels

NAMES = ("aster", "sentinel2")


def asked(*tiles: tuple[int, int], real: list[bool] | None = None, epoch: int = 3) -> Request:
    """Tiles as (set, position in its index), each taken for the first time."""
    set_B, tile_B = np.array(tiles, np.int64).T
    real_B = np.ones(len(tiles), np.bool_) if real is None else np.array(real)
    return Request(Places(set_B, np.zeros_like(set_B), tile_B), real_B, epoch)


@pytest.fixture
def sets(one: Index, two: Index) -> list[ShardSet]:
    return [ShardSet(one), ShardSet(two)]


def test_tiles_of_several_sets_stand_as_they_were_asked_for(sets: list[ShardSet], one: Index, two: Index) -> None:
    found = MicroBatches(sets, NAMES, seed=5).read(asked((1, 4), (0, 2), (1, 0)))
    rows = [int(two.row[4]), int(one.row[2]), int(two.row[0])]
    assert found.row_B.tolist() == rows
    assert found.level_B.tolist() == [row % 2 for row in rows]
    assert (found.real_B.tolist(), found.damaged) == ([True] * 3, ())
    assert list(found.pixels) == list(NAMES)
    for name, array in found.pixels.items():
        assert array.dtype == DATASETS[name].dtype
        for slot, row in enumerate(rows):
            np.testing.assert_array_equal(array[slot], pixels(row, name, DATASETS[name]))


def test_keys_follow_from_seed_epoch_set_and_row(sets: list[ShardSet]) -> None:
    request = asked((0, 2), (1, 2), epoch=7)
    found = MicroBatches(sets, NAMES, seed=5).read(request)
    numbers = draw_rows(found.row_B, request.places.set_B, request.places.repeat_B)
    assert found.key_B.tolist() == tile_keys(5, 7, numbers).tolist()
    assert len(set(found.key_B.tolist())) == 2


def test_given_arrays_are_filled_and_shared_with_the_batch(sets: list[ShardSet], one: Index) -> None:
    given = {"aster": np.full((2, *DATASETS["aster"].shape), -1, DATASETS["aster"].dtype)}
    found = MicroBatches(sets, ["aster"], seed=0).read(asked((0, 3), (0, 4)), given)
    np.testing.assert_array_equal(given["aster"][1], pixels(int(one.row[4]), "aster", DATASETS["aster"]))
    assert found.batch().pixels["aster"].data_ptr() == given["aster"].ctypes.data


def test_a_damaged_tile_ends_the_reading(sets: list[ShardSet], one: Index) -> None:
    damage(one, int(one.row[3]))
    with pytest.raises(DamagedTile):
        MicroBatches(sets, NAMES, seed=0).read(asked((0, 3), (0, 4)))


def test_a_skipped_damaged_tile_is_zeros_and_reported_once(sets: list[ShardSet], one: Index) -> None:
    row = int(one.row[3])
    begin = damage(one, row)
    request = asked((0, 3), (0, 4), (0, 3), real=[True, True, False])
    found = MicroBatches(sets, NAMES, seed=0, skip=True).read(request)
    assert found.real_B.tolist() == [False, True, False]
    assert request.real_B.tolist() == [True, True, False], "the request stays as it was"
    # The tile that pads the batch does not count, damaged or not.
    (told,) = found.damaged
    assert (told.row, told.dataset, told.offset) == (row, "aster", begin)
    assert not any(array[[0, 2]].any() for array in found.pixels.values())
    assert all(array[1].any() for array in found.pixels.values())

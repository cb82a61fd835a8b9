"""Batches from real shards of several sets, sound and damaged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
import pytest

from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.config.schema import DataConfig
from mmae.data.loading.loader import read_batches, train_batches, validation_batches
from mmae.data.sampling.mixture import all_places
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import TrainingTiles, training_tiles
from mmae.data.shards.index import Index
from mmae.data.shards.reader import DamagedTile
from mmae.draws import VALIDATION_EPOCH, draw_rows, tile_keys
from mmae.types import Batch, Damage
from tests.support.tiny_sets import DATASETS, damage, pixels, write_set

DOMAINS = ("rgb", "depth")
GLOBAL_BATCH, STEPS = 6, 9
CONFIG = DataConfig(weights=(1.0, 2.5), window=2, workers=0)


@pytest.fixture
def indexes(tmp_path: Path) -> list[Index]:
    one = write_set(tmp_path / "one", {"train": list(range(9)), "val": [90, 91]})
    return [one, write_set(tmp_path / "two", {"val": [95], "train": list(range(3, 12))})]


def tiles_of(indexes: list[Index], config: DataConfig = CONFIG) -> TrainingTiles:
    return training_tiles([ShardSet(index) for index in indexes], config, seed=5)


def read(
    tiles: TrainingTiles, config: DataConfig = CONFIG, world: int = 1, micro: int = 3, start: int = 0, stop: int = STEPS
) -> list[list[Batch]]:
    """Each rank's batches."""
    split = split_global_batch(GLOBAL_BATCH, micro, world)
    order = tiles.order(GLOBAL_BATCH)
    return [
        list(
            train_batches(
                tiles, DOMAINS, config, seed=5, order=order, split=split, rank=rank,
                start_step=start, stop_step=stop, pin=False,
            )
        )
        for rank in range(world)
    ]  # fmt: skip


def in_order(ranks: list[list[Batch]]) -> Iterator[tuple[int, int, bytes, bool]]:
    """Row, key, pixels and validity of each tile, by micro-step and then by rank."""
    for micro_step in zip(*ranks, strict=True):
        for batch in micro_step:
            for slot in range(len(batch.row_B)):
                content = b"".join(array[slot].numpy().tobytes() for array in batch.pixels.values())
                yield int(batch.row_B[slot]), int(batch.key_B[slot]), content, bool(batch.real_B[slot])


def test_each_tile_comes_from_its_set_with_draws_of_its_own(indexes: list[Index]) -> None:
    tiles = tiles_of(indexes)
    (batches,) = read(tiles)
    keys: list[int] = []
    order = tiles.order(GLOBAL_BATCH)
    for step in range(STEPS):
        epoch, slots = order.global_batch_at(step)
        places = tiles.locate(epoch, slots)
        rows = [int(indexes[number].row[at]) for number, at in zip(places.set_B, places.tile_B, strict=True)]
        expected = tile_keys(5, epoch, draw_rows(np.array(rows), places.set_B, places.repeat_B)).tolist()
        both = batches[2 * step : 2 * step + 2]
        assert [row for batch in both for row in batch.row_B.tolist()] == rows
        assert [key for batch in both for key in batch.key_B.tolist()] == expected
        keys += expected
        for slot, row in enumerate(rows):
            batch, where = both[slot // 3], slot % 3
            assert int(batch.level_B[where]) == row % 2
            for name, info in DATASETS.items():
                assert batch.pixels[name][where].numpy().tobytes() == pixels(row, name, info).tobytes()
    assert len(set(keys)) == len(keys)


def test_one_set_draws_as_it_always_did(indexes: list[Index]) -> None:
    (batches,) = read(tiles_of(indexes[:1], DataConfig()), DataConfig(workers=0), stop=1)
    for batch in batches:
        assert batch.key_B.tolist() == tile_keys(5, 0, batch.row_B.numpy()).tolist()


@pytest.mark.process
def test_world_workers_and_micro_batch_change_no_global_batch(indexes: list[Index]) -> None:
    tiles = tiles_of(indexes)
    whole = list(in_order(read(tiles)))
    pieces = [
        read(tiles, world=1, micro=6, stop=2),
        read(tiles, DataConfig(weights=(1.0, 2.5), window=2, workers=2), world=2, micro=1, start=2, stop=5),
        read(tiles, DataConfig(weights=(1.0, 2.5), window=2, workers=1), world=3, micro=2, start=5),
    ]
    assert [tile for piece in pieces for tile in in_order(piece)] == whole


def test_validation_takes_every_set_whole(indexes: list[Index]) -> None:
    config = DataConfig(fraction=0.1, max_tiles=1, weights=(1.0, 3.0), window=1, workers=0)
    counted = []
    for rank in range(2):
        for batch in validation_batches(
            [ShardSet(index) for index in indexes], DOMAINS, config,
            seed=5, split=BatchSplit(2, 1, 2), rank=rank, pin=False,
        ):  # fmt: skip
            counted += [row for row, real in zip(batch.row_B.tolist(), batch.real_B.tolist(), strict=True) if real]
    assert sorted(counted) == [90, 91, 95]


def test_commands_read_single_places(indexes: list[Index]) -> None:
    sets = [ShardSet(index) for index in indexes]
    places = all_places([np.array([8, 0]), np.array([], np.int64)])[::-1]
    (batch,) = read_batches(sets, DOMAINS, places, seed=0, epoch=VALIDATION_EPOCH)
    assert batch.row_B.tolist() == [0, 8]
    sizes = [len(batch.row_B) for batch in read_batches(indexes[0], DOMAINS, np.arange(9), seed=0, epoch=0, size=4)]
    assert sizes == [4, 4, 1]
    assert list(read_batches(sets, DOMAINS, all_places([]), seed=0, epoch=0)) == []


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.process)])
def test_damage_names_shard_tile_and_place(indexes: list[Index], workers: int) -> None:
    begin = damage(indexes[1], 7)
    config = DataConfig(weights=(1.0, 2.5), window=2, workers=workers)
    with pytest.raises(DamagedTile) as caught:
        read(tiles_of(indexes), config)
    message = str(caught.value)
    assert "two/train-000001.tar" in message
    assert f"aster of row 7 at byte {begin}" in message
    assert "\n" not in message


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.process)])
def test_skipped_tiles_are_zeros_that_do_not_count(indexes: list[Index], workers: int) -> None:
    tiles = tiles_of(indexes)
    sound = list(in_order(read(tiles)))
    begin = damage(indexes[1], 7)
    ranks = read(tiles, DataConfig(weights=(1.0, 2.5), window=2, workers=workers, on_damage="skip"), world=2)
    seen = list(in_order(ranks))
    found = [each for batches in ranks for batch in batches for each in batch.damaged]
    left_out = 0
    for (row, key, content, real), (sound_row, sound_key, sound_content, _) in zip_longest(seen, sound):
        assert (row, key) == (sound_row, sound_key)
        if real:
            assert content == sound_content
        else:
            assert row == 7
            assert not any(content)
            left_out += 1
    # Set 1 gives the tile two or three times an epoch; set 0 has a sound tile of the same row.
    assert len(found) == left_out > 1
    assert sum(row == 7 for row, _, _, real in seen if real) > 0
    shard = str(indexes[1].folder / "train-000001.tar")
    assert set(found) == {Damage(shard, 7, "aster", begin, "its checksum differs")}


def test_every_tile_of_a_batch_may_be_damaged(indexes: list[Index]) -> None:
    for row in range(9):
        damage(indexes[0], row)
    config = DataConfig(workers=0, on_damage="skip")
    (batches,) = read(tiles_of(indexes[:1], config), config, stop=1)
    assert all(not batch.real_B.any() and len(batch.damaged) == 3 for batch in batches)


def test_padding_is_not_damage(indexes: list[Index]) -> None:
    damage(indexes[0], 91)
    config = DataConfig(workers=0, on_damage="skip")
    (batch,) = validation_batches(indexes[0], DOMAINS, config, seed=0, split=BatchSplit(8, 1, 1), rank=0, pin=False)
    assert batch.real_B.tolist() == [True] + [False] * 7
    assert len(batch.damaged) == 1


@pytest.mark.process
@pytest.mark.parametrize("held", [0, 3, 100])
def test_batches_that_are_kept_are_not_overwritten(indexes: list[Index], held: int) -> None:
    tiles = tiles_of(indexes)
    config = DataConfig(weights=(1.0, 2.5), window=2, workers=2, prefetch=1)
    batches = train_batches(
        tiles, DOMAINS, config, seed=5, order=tiles.order(GLOBAL_BATCH), split=BatchSplit(2, 3, 1), rank=0,
        start_step=0, stop_step=12, pin=False,
    )  # fmt: skip
    kept: list[Batch] = []
    for batch in batches:
        kept = [*kept, batch][-1 - held :]
        for each in kept:
            for slot, row in enumerate(each.row_B.tolist()):
                for name, info in DATASETS.items():
                    assert each.pixels[name][slot].numpy().tobytes() == pixels(row, name, info).tobytes()
    assert len(kept) == min(36, held + 1)


def test_a_run_is_read_as_it_goes(indexes: list[Index]) -> None:
    tiles = tiles_of(indexes)
    batches = train_batches(
        tiles, DOMAINS, CONFIG, seed=5, order=tiles.order(GLOBAL_BATCH), split=BatchSplit(6, 1, 1), rank=0,
        start_step=0, stop_step=10**9, pin=False,
    )  # fmt: skip
    assert len(list(islice(batches, 3))) == 3

"""Which rank reads which tile at which step, for many worlds, without processes. A resume changes nothing."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.config.batch_split import BatchSplit, split_global_batch
from mmae.config.schema import DataConfig
from mmae.data.sampling.batch_requests import Request, training_requests, validation_requests
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import TrainingTiles, training_tiles
from mmae.draws import VALIDATION_EPOCH, draw_rows, tile_keys
from tests.support.tiny_sets import write_set

GLOBAL_BATCH = 12
NODES, RANKS, MICRO, EPOCHS = (1, 2), (1, 2, 3), (1, 2, 4, 12), 3

Tile = tuple[int, int, int]  # set, repeat, position in its index


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[ShardSet]:
    folder = tmp_path_factory.mktemp("sets")
    one = write_set(folder / "one", {"val": list(range(9)), "train": list(range(10, 41))}, shard_tiles=4)
    two = write_set(folder / "two", {"train": list(range(17)), "val": list(range(50, 53))}, shard_tiles=6)
    return [ShardSet(one), ShardSet(two)]


CONFIGS = {
    "plain": DataConfig(),
    "window": DataConfig(window=2),
    "weights": DataConfig(weights=(0.7, 2.25)),
    "everything": DataConfig(weights=(1.5, 1.2), window=3, fraction=0.8, max_tiles=20),
}


@pytest.fixture(scope="module", params=CONFIGS)
def tiles(request: pytest.FixtureRequest, sets: list[ShardSet]) -> TrainingTiles:
    return training_tiles(sets, CONFIGS[request.param], seed=5)


def named(request: Request) -> list[Tile]:
    columns = (request.places.set_B, request.places.repeat_B, request.places.tile_B)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def global_batches(tiles: TrainingTiles, split: BatchSplit, start: int, stop: int) -> list[list[Tile]]:
    """What all ranks read together, step by step: micro-step after micro-step, rank after rank."""
    order = tiles.order(GLOBAL_BATCH)
    ranks = [list(training_requests(tiles, order, split, rank, start, stop)) for rank in range(split.world)]
    assert all(len(requests) == (stop - start) * split.accumulation for requests in ranks)
    assert all(len(request.places) == len(request.real_B) == split.micro for each in ranks for request in each)
    assert all(request.real_B.all() for each in ranks for request in each)
    return [
        [
            tile
            for micro in range(split.accumulation)
            for requests in ranks
            for tile in named(requests[step * split.accumulation + micro])
        ]
        for step in range(stop - start)
    ]


def epoch_tiles(tiles: TrainingTiles, epoch: int) -> list[Tile]:
    places = tiles.locate(epoch, np.arange(tiles.mixture.num_slots))
    return named(Request(places, np.empty(0, np.bool_), epoch))


@pytest.mark.parametrize(("nodes", "ranks", "micro"), [*product(NODES, RANKS, MICRO)])
def test_an_epoch_reads_every_tile_once_in_every_world(
    tiles: TrainingTiles, nodes: int, ranks: int, micro: int
) -> None:
    steps = tiles.order(GLOBAL_BATCH).steps_per_epoch
    read = global_batches(tiles, split_global_batch(GLOBAL_BATCH, micro, nodes * ranks), 0, EPOCHS * steps)
    assert len(read) == EPOCHS * steps
    for epoch in range(EPOCHS):
        seen = [tile for batch in read[epoch * steps : (epoch + 1) * steps] for tile in batch]
        expected = epoch_tiles(tiles, epoch)
        assert len(seen) == len(set(seen)) == steps * GLOBAL_BATCH > len(expected) - GLOBAL_BATCH
        assert set(seen) <= set(expected)
    # Global batches do not depend on the world.
    assert read == global_batches(tiles, BatchSplit(GLOBAL_BATCH, 1, 1), 0, EPOCHS * steps)


@pytest.mark.long
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_resume_under_another_world_goes_on_with_the_same_batches(sets: list[ShardSet], data: st.DataObject) -> None:
    tiles = training_tiles(sets, CONFIGS[data.draw(st.sampled_from(list(CONFIGS)))], seed=data.draw(st.integers(0, 3)))
    stop = 3 * tiles.order(GLOBAL_BATCH).steps_per_epoch
    cuts = sorted(data.draw(st.lists(st.integers(0, stop), max_size=3)))
    read: list[list[Tile]] = []
    for start, end in zip([0, *cuts], [*cuts, stop], strict=True):
        world = data.draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
        split = split_global_batch(GLOBAL_BATCH, data.draw(st.integers(1, 12)), world)
        read += global_batches(tiles, split, start, end)
    assert read == global_batches(tiles, BatchSplit(GLOBAL_BATCH, 1, 1), 0, stop)


def test_no_two_tiles_of_an_epoch_share_their_draws(tiles: TrainingTiles) -> None:
    keys: list[int] = []
    for epoch in range(EPOCHS):
        places = tiles.locate(epoch, np.arange(tiles.mixture.num_slots))
        rows = np.array([
            tiles.sets[number].index.row[position]
            for number, position in zip(places.set_B.tolist(), places.tile_B.tolist(), strict=True)
        ])  # fmt: skip
        keys += tile_keys(0, epoch, draw_rows(rows, places.set_B, places.repeat_B)).tolist()
    assert len(set(keys)) == len(keys)


def test_a_later_start_does_not_read_earlier_batches(tiles: TrainingTiles) -> None:
    split = BatchSplit(4, 3, 1)
    assert global_batches(tiles, split, 4, 4) == []
    assert global_batches(tiles, split, 4, 7) == global_batches(tiles, split, 0, 7)[4:]


@pytest.mark.parametrize(("world", "micro"), [*product((1, 2, 5), (1, 4, 20))])
def test_validation_reads_every_set_once(sets: list[ShardSet], world: int, micro: int) -> None:
    positions = [each.index.positions("val") for each in sets]
    split = BatchSplit(micro, 1, world)
    ranks = [list(validation_requests(positions, split, rank)) for rank in range(world)]
    assert len({len(requests) for requests in ranks}) == 1
    counted: Counter[Tile] = Counter()
    for request in (request for requests in ranks for request in requests):
        assert request.epoch == VALIDATION_EPOCH
        counted.update(tile for tile, real in zip(named(request), request.real_B.tolist(), strict=True) if real)
    expected = [(number, 0, position) for number, each in enumerate(positions) for position in each.tolist()]
    assert counted == Counter(expected)

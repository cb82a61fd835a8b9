"""Which shards are fetched before they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mmae.config.batch_split import BatchSplit
from mmae.config.schema import DataConfig
from mmae.data.sampling.batch_requests import training_requests
from mmae.data.sampling.shard_lookahead import ShardLookahead, share
from mmae.data.sampling.shard_sets import ShardSet, check_cache
from mmae.data.sampling.training_tiles import TrainingTiles, training_tiles
from mmae.errors import InputError
from tests.support.tiny_sets import write_set


@pytest.fixture
def sets(tmp_path: Path) -> list[ShardSet]:
    """Ten train shards of four tiles behind one of validation; five of three."""
    one = write_set(tmp_path / "one", {"val": [99], "train": list(range(40))})
    two = write_set(tmp_path / "two", {"train": list(range(50, 65))}, shard_tiles=3)
    return [ShardSet(one, cast(Any, object())), ShardSet(two)]


def read_in(tiles: TrainingTiles, batch: int, step: int) -> set[tuple[int, int]]:
    """(set, shard) that a step reads."""
    epoch, slots = tiles.order(batch).global_batch_at(step)
    places = tiles.locate(epoch, slots)
    pairs = zip(places.set_B.tolist(), places.tile_B.tolist(), strict=True)
    return {(number, int(tiles.sets[number].index.shard[at])) for number, at in pairs}


@pytest.mark.parametrize("config", [DataConfig(window=3), DataConfig(window=2, weights=(0.5, 2.0)), DataConfig()])
@pytest.mark.parametrize("start", [0, 6])
def test_every_shard_is_announced_before_it_is_read(sets: list[ShardSet], config: DataConfig, start: int) -> None:
    tiles = training_tiles(sets, config, seed=2)
    look = ShardLookahead(tiles, tiles.order(5))
    told: set[tuple[int, int]] = set()
    times = 0
    for step in range(start, start + 40):
        news = look.at(step)
        if news is not None:
            told = {(number, shard) for number, each in enumerate(news) for shard in each}
            assert sum(map(len, news)) == len(told)
            times += 1
        assert read_in(tiles, 5, step) <= told
    steps = 40 / tiles.order(5).steps_per_epoch
    windows = 1 if config.window is None else -(-15 // config.window) if config.weights is None else 10
    assert times <= (steps + 2) * windows


def test_only_two_windows_are_announced_at_once(sets: list[ShardSet]) -> None:
    look = ShardLookahead(tiles := training_tiles(sets, DataConfig(window=2), seed=0), tiles.order(5))
    news = [told for step in range(60) if (told := look.at(step)) is not None]
    assert {sum(map(len, told)) for told in news} <= {2, 3, 4}


def test_readers_begin_at_different_shards() -> None:
    shards = ((4, 5, 6, 7), (9,), ())
    assert share(shards, 0, 1) == shards
    assert [share(shards, number, 4)[0][0] for number in range(4)] == [4, 5, 6, 7]
    assert all(sorted(share(shards, 1, 3)[number]) == sorted(each) for number, each in enumerate(shards))


def test_each_window_is_announced_once_to_each_reader(sets: list[ShardSet]) -> None:
    tiles = training_tiles(sets, DataConfig(window=5), seed=0)
    requests = list(training_requests(tiles, tiles.order(4), BatchSplit(2, 2, 1), 0, 0, 13, readers=3))
    told = np.array([request.ahead is not None for request in requests])
    assert told[:3].all()
    assert not told[3:6].any()
    assert told.sum() % 3 == 0
    plain = training_tiles([ShardSet(each.index) for each in sets], DataConfig(window=5), seed=0)
    for request in training_requests(plain, tiles.order(4), BatchSplit(2, 2, 1), 0, 0, 13, readers=3):
        assert request.ahead is None


def test_a_cache_that_would_be_emptied_too_early_is_refused(sets: list[ShardSet]) -> None:
    def check(**config: object) -> None:
        check_cache(sets, DataConfig(**config))  # type: ignore[arg-type]

    sizes = [shard.bytes for shard in sets[0].index.shards if shard.split == "train"]
    check(cache_gb=sum(sizes) / 1e9)
    check_cache(sets[1:], DataConfig(cache_gb=1e-9))
    five = 5 * max(sizes) / 1e9
    check(cache_gb=five, window=2)
    with pytest.raises(InputError, match=r"random order: set data\.window=2 "):
        check(cache_gb=five)
    with pytest.raises(InputError, match=r"data\.window=3: two windows .* data\.window=2 or less"):
        check(cache_gb=five, window=3)
    with pytest.raises(InputError, match="fewer than two shards"):
        check(cache_gb=max(sizes) / 1e9, window=1)

"""Validation tiles whose ground is trained on, in the same set or in another."""

from __future__ import annotations

from pathlib import Path

from mmae.config.schema import DataConfig
from mmae.data.sampling.leaks import Leak, leak, leaks_of_set, trained_ground, warnings
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import training_tiles
from mmae.data.shards.index import Index
from tests.support.tiny_sets import write_set


def found(*sets: Index, **config: object) -> Leak | None:
    tiles = training_tiles([ShardSet(each) for each in sets], DataConfig(**config), seed=0)  # type: ignore[arg-type]
    return leak(tiles.sets, trained_ground(tiles))


def same_ids(count: int, of: int, *first: str) -> Leak:
    return Leak("val", "train", of, count, 0, 0, tuple((name, name) for name in first))


def test_sets_that_share_nothing_leak_nothing(one: Index, two: Index) -> None:
    assert found(one) is None
    assert found(two) is None  # it has no validation split
    assert found(one, two) is None


def test_each_leaked_tile_counts_whichever_set_comes_first(tmp_path: Path, one: Index, two: Index) -> None:
    third = write_set(tmp_path / "three", {"train": [7, 101, 100000, 100], "val": [40, 6]})
    assert found(one, third) == same_ids(2, 4, "tile-100", "tile-101")
    assert found(third, one) == same_ids(2, 4, "tile-100", "tile-101")
    assert found(third, two) == same_ids(1, 2, "tile-40")
    assert str(found(third, two)) == (
        "1 of 2 tiles of val show ground that train shows too (1 with the same tile id; the first: 'tile-40')"
    )


def test_tiles_that_training_leaves_out_do_not_leak(tmp_path: Path, one: Index) -> None:
    third = write_set(tmp_path / "three", {"train": [7, 101, 100]})
    assert found(one, third, max_tiles=1) is None
    assert found(one, third, max_tiles=2) == same_ids(1, 2, "tile-101")


def test_places_and_footprints_leak_within_one_set(tmp_path: Path) -> None:
    # Tiles of 8 pixels: 80 m, about 0.0007 degrees.
    places = {1: (10.0, 20.0), 2: (50.0, 6.0), 3: (-40.0, 100.0), 11: (10.0, 20.0), 12: (50.0005, 6.0), 13: (0.0, 0.0)}
    index = write_set(tmp_path / "set", {"val": [13, 12, 11], "train": [1, 2, 3]}, places=places)
    expected = Leak("val", "train", 3, 0, 1, 1, (("tile-11", "tile-1"), ("tile-12", "tile-2")))
    assert found(index) == expected
    assert leaks_of_set(index) == [expected]
    (line,) = warnings([expected])
    assert "1 with the same place, 1 with an overlapping footprint; the first: 'tile-11' and 'tile-1', " in line
    assert "--splits FILE" in line


def test_every_two_splits_are_compared_and_empty_ones_hold_nothing(tmp_path: Path) -> None:
    places = {row: (1.0, 2.0) for row in range(4)}
    index = write_set(tmp_path / "set", {"val": [0], "train": [1, 2], "test": [3], "more": []}, places=places)
    pairs = [(each.split, each.other, each.tiles) for each in leaks_of_set(index)]
    assert pairs == [("val", "train", 1), ("test", "train", 1), ("test", "val", 1)]


def test_only_the_first_few_are_named(tmp_path: Path) -> None:
    rows = list(range(20))
    places = dict.fromkeys(range(40), (1.0, 2.0))
    index = write_set(tmp_path / "set", {"val": rows, "train": [row + 20 for row in rows]}, places=places)
    (each,) = leaks_of_set(index)
    assert (each.tiles, len(each.pairs)) == (20, 3)


def test_ids_are_printed_without_their_escapes() -> None:
    assert "\x1b" not in str(Leak("val", "train", 1, 1, 0, 0, (("\x1b[2J", "\x1b[2J"),)))

"""Validation tiles of one set that another is trained on."""

from __future__ import annotations

from pathlib import Path

from mmae.config import DataConfig
from mmae.data.index import Index
from mmae.data.leaks import Leak, leak
from mmae.data.sets import ShardSet
from mmae.data.training_tiles import training_tiles
from tests.data.tiny_sets import write_set


def found(*sets: Index, **config: object) -> Leak | None:
    return leak(training_tiles([ShardSet(each) for each in sets], DataConfig(**config), seed=0))  # type: ignore[arg-type]


def test_sets_that_share_nothing_leak_nothing(one: Index, two: Index) -> None:
    assert found(one) is None
    assert found(two) is None  # it has no validation split
    assert found(one, two) is None


def test_each_leaked_tile_counts_whichever_set_comes_first(tmp_path: Path, one: Index, two: Index) -> None:
    third = write_set(tmp_path / "three", {"train": [7, 101, 100000, 100], "val": [40, 6]})
    assert found(one, third) == found(third, one) == Leak(2, 4, "tile-100")
    assert found(third, two) == Leak(1, 2, "tile-40")
    assert str(found(third, two)).startswith("1 of 2 validation tiles are trained on")


def test_tiles_that_training_leaves_out_do_not_leak(tmp_path: Path, one: Index) -> None:
    third = write_set(tmp_path / "three", {"train": [7, 101, 100]})
    assert found(one, third, max_tiles=1) is None
    assert found(one, third, max_tiles=2) == Leak(1, 2, "tile-101")

"""Messages of a start about its splits."""

from __future__ import annotations

from pathlib import Path

from mmae.config.schema import DataConfig
from mmae.data.checks.split_check import SplitCheck, check_splits
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import training_tiles
from mmae.data.shards.index import Index
from tests.support.tiny_sets import ROWS, write_set


def check(*sets: Index) -> SplitCheck:
    return check_splits(training_tiles([ShardSet(each) for each in sets], DataConfig(), seed=0))


def test_nothing_to_say(one: Index, two: Index) -> None:
    assert check(one) == check(one, two) == SplitCheck(True, None, 0)
    assert not list(check(one, two).lines())


def test_a_run_without_validation_is_reported(two: Index) -> None:
    (line,) = check(two).lines()
    assert line.startswith("there is no validation: no set in data.shards has a tile in val")
    assert "--val-fraction 0.01" in line


def test_a_split_without_a_tile_does_not_count(tmp_path: Path) -> None:
    assert not check(write_set(tmp_path / "set", {"train": [1], "val": []})).validates


def test_leaks_and_repeated_tiles_are_counted(tmp_path: Path, one: Index) -> None:
    other = write_set(tmp_path / "other", {"train": [*ROWS[:2], 100]})
    found = check(one, other)
    assert (found.validates, found.repeated) == (True, 2)
    leaked, repeated = found.lines()
    assert leaked.startswith("WARNING: 1 of 2 tiles of val show ground that train shows too")
    assert repeated.startswith("WARNING: 2 tiles of train have the id of another tile of train")

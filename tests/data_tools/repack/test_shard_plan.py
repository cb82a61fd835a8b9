"""Rows to shards: all of them once, in an order that the seed decides."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.repack.shard_plan import PlannedShard, plan_shards

SPLITS = {"train": np.arange(100, 1100, dtype=np.int64), "val": np.arange(7, dtype=np.int64)}


def rows(planned: list[PlannedShard], split: str) -> list[int]:
    return [row for shard in planned if shard.split == split for row in shard.rows.tolist()]


def test_every_row_goes_into_one_shard_of_its_split() -> None:
    planned = plan_shards(SPLITS, 64, seed=1)
    for split, listed in SPLITS.items():
        assert sorted(rows(planned, split)) == listed.tolist()


@pytest.mark.parametrize("tiles", [1, 3, 64, 999, 1000, 5000])
def test_shards_are_named_in_order_and_nearly_equal(tiles: int) -> None:
    planned = [shard for shard in plan_shards(SPLITS, tiles, seed=1) if shard.split == "train"]
    assert [shard.name for shard in planned] == [f"train-{number:06d}.tar" for number in range(-(-1000 // tiles))]
    sizes = [len(shard.rows) for shard in planned]
    assert max(sizes) <= tiles
    assert max(sizes) - min(sizes) <= 1


def test_an_empty_split_has_no_shard() -> None:
    assert plan_shards({"test": np.empty(0, np.int64)}, 10, seed=1) == []


def test_the_order_is_the_seed_s_and_does_not_depend_on_how_rows_were_listed() -> None:
    first = rows(plan_shards(SPLITS, 64, seed=1), "train")
    turned = {split: listed[::-1] for split, listed in SPLITS.items()}
    assert rows(plan_shards(turned, 10, seed=1), "train") == first
    assert rows(plan_shards(SPLITS, 64, seed=2), "train") != first
    assert first != sorted(first)


def test_every_shard_is_a_fair_sample() -> None:
    """Rows are listed place by place: no shard may hold those of one region."""
    means = [shard.rows.mean() for shard in plan_shards(SPLITS, 100, seed=1) if shard.split == "train"]
    assert len(means) == 10
    # A mean of 100 draws from 1000 rows deviates by 27; the means of plain runs would reach 450.
    assert np.abs(np.array(means) - 599.5).max() < 120

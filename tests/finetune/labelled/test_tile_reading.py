"""What a step reads does not depend on ranks and accumulation, nor does a tile's partner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mmae.config.batch_split import BatchSplit
from mmae.data.sampling.mixture import Mixture
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import TrainingTiles
from mmae.finetune.labelled.tile_reading import partner_places, read_tiles, tuning_requests
from tests.support.tiny_sets import write_set


def tiles(folder: Path) -> TrainingTiles:
    index = write_set(folder / "shards", {"train": range(13)})
    return TrainingTiles((ShardSet(index),), (np.arange(13, dtype=np.int64),), Mixture((13,), (1.0,), 3), None, "")


def step_of(found: TrainingTiles, split: BatchSplit, step: int) -> list[list[tuple[int, int]]]:
    """The tiles and partners of a step, by their places in the global batch."""
    parts: list[list[tuple[int, int]]] = []
    for accumulated in range(split.accumulation):
        for rank in range(split.world):
            requests = list(tuning_requests(found, split, rank, step, step + 1, True, 3))
            chosen = requests[accumulated].places.tile_B
            parts.append(list(zip(chosen[: split.micro].tolist(), chosen[split.micro :].tolist(), strict=True)))
    return parts


@pytest.mark.parametrize("split", [BatchSplit(6, 2, 1), BatchSplit(6, 1, 2), BatchSplit(3, 2, 2), BatchSplit(1, 12, 1)])
def test_a_step_reads_the_same_tiles_and_partners_on_any_shape(split: BatchSplit, tmp_path: Path) -> None:
    found = tiles(tmp_path)
    for step in (0, 5):
        whole = step_of(found, BatchSplit(12, 1, 1), step)
        assert [pair for part in step_of(found, split, step) for pair in part] == whole[0]


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_each_tile_is_the_partner_of_one_other(size: int) -> None:
    partner = partner_places(size, seed=1, step=4)
    assert sorted(partner) == list(range(size))
    assert size == 1 or not (partner == np.arange(size)).any()


def test_partners_change_with_the_step_and_the_seed() -> None:
    assert not np.array_equal(partner_places(64, 0, 0), partner_places(64, 0, 1))
    assert not np.array_equal(partner_places(64, 0, 0), partner_places(64, 1, 0))


def test_a_start_in_the_middle_reads_what_follows(tmp_path: Path) -> None:
    found, split = tiles(tmp_path), BatchSplit(4, 1, 1)

    def read(start: int) -> Iterator[list[int]]:
        return (each.places.tile_B.tolist() for each in tuning_requests(found, split, 0, start, 9, False, 3))

    assert list(read(0))[4:] == list(read(4))


def test_tiles_are_read_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    index = write_set(tmp_path / "shards", {"train": range(40)})
    positions = np.arange(39, -1, -1, dtype=np.int64)
    batches = list(read_tiles(ShardSet(index), ("aster",), positions))
    assert [row for batch in batches for row in batch.row_B.tolist()] == list(range(39, -1, -1))

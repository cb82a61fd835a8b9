"""Tiles of shards as a plain PyTorch dataset."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import mmae
from mmae.errors import InputError
from tests.support.tiny_sets import DATASETS, damage, pixels, write_set

PLACES = {row: (float(row), -float(row)) for row in (1, 2, 3, 5)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path / "set", {"train": [5, 3, 2], "val": [1]}, places=PLACES)
    return tmp_path / "set"


def test_tiles_are_what_was_packed(folder: Path) -> None:
    tiles = mmae.ShardDataset(folder)
    assert len(tiles) == 3
    for number, row in enumerate([5, 3, 2]):
        tile = tiles[number]
        for name, info in DATASETS.items():
            assert np.array_equal(tile[name].numpy(), pixels(row, name, info))
            assert tile[name].numpy().dtype == info.dtype
        assert (tile["tile_id"], tile["row"], tile["lat"], tile["lon"]) == (f"tile-{row}", row, row, -row)
        assert tile["level"] == ("l1c", "l2a")[row % 2]
    assert tiles[-1]["row"] == 2
    assert mmae.ShardDataset(folder, "val", ["aster"])[0]["row"] == 1
    assert "sentinel2" not in mmae.ShardDataset(folder, "val", ["aster"])[0]


def test_arrays_that_are_constant_are_filled_in(folder: Path) -> None:
    tiles = mmae.ShardDataset(folder)
    # The index says that a member is not stored, and which number its pixels have.
    position = int(tiles.positions[0])
    size, constant = tiles.index.size.copy(), tiles.index.constants["aster"].copy()
    size[position, list(DATASETS).index("aster")], constant[position] = 0, 7
    object.__setattr__(tiles.index, "size", size)
    tiles.index.constants["aster"] = constant  # type: ignore[index]
    assert (tiles[0]["aster"] == 7).all()
    assert tiles[0]["aster"].shape == (2, 8, 8)


@pytest.mark.process
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_one_process_reads(folder: Path, start: str) -> None:
    tiles = mmae.ShardDataset(folder)
    tiles[0]
    loader = DataLoader(tiles, batch_size=2, num_workers=2, multiprocessing_context=start)
    batches = list(loader)
    assert [row for batch in batches for row in batch["row"].tolist()] == [5, 3, 2]
    assert torch.equal(batches[0]["aster"][1], tiles[1]["aster"])
    assert batches[0]["tile_id"] == ["tile-5", "tile-3"]


def test_it_may_be_pickled(folder: Path) -> None:
    assert pickle.loads(pickle.dumps(mmae.ShardDataset(folder)))[1]["row"] == 3  # noqa: S301 (our own)


def test_what_is_not_there_is_one_line(folder: Path) -> None:
    with pytest.raises(InputError, match="no split 'tst'"):
        mmae.ShardDataset(folder, "tst")
    with pytest.raises(InputError, match="did you mean 'aster'"):
        mmae.ShardDataset(folder, datasets=["astr"])
    with pytest.raises(IndexError, match="tile 3 of 3"):
        mmae.ShardDataset(folder)[3]
    tiles = mmae.ShardDataset(folder)
    damage(tiles.index, 3)
    with pytest.raises(InputError, match="is damaged"):
        tiles[1]

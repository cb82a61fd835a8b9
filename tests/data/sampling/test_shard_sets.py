"""Shard sets that are mixed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mmae.config.schema import DataConfig
from mmae.data.sampling.shard_sets import ShardSet, common_datasets, moved, open_sets, split_positions
from mmae.data.shards.index import Index
from mmae.data.shards.index_json import DatasetInfo
from mmae.errors import InputError
from tests.support.tiny_sets import DATASETS, write_set


def test_sets_must_store_datasets_alike(tmp_path: Path, one: Index) -> None:
    def other(name: str, **changes: DatasetInfo) -> ShardSet:
        return ShardSet(write_set(tmp_path / name, {"train": [1]}, datasets={**DATASETS, **changes}))

    wide = other("wide", sentinel2=DatasetInfo(np.dtype("<u4"), (13, 8, 8)))
    small = other("small", aster=DatasetInfo(np.dtype("<i2"), (2, 4, 4)))
    assert common_datasets([ShardSet(one), wide], ["depth"]) == ("aster",)
    with pytest.raises(InputError, match=r"wide: sentinel2 is uint32 \(13, 8, 8\) a tile, in .*one it is uint16"):
        common_datasets([ShardSet(one), wide], ["depth", "rgb"])
    with pytest.raises(InputError, match=r"small: aster is int16 \(2, 4, 4\)"):
        common_datasets([ShardSet(one), small], ["depth", "rgb"])
    with pytest.raises(InputError, match="no dataset 'esa_worldcover'"):
        common_datasets([small, ShardSet(one)], ["semseg"])


def test_a_split_may_be_in_some_sets_only(one: Index, two: Index) -> None:
    found = split_positions([ShardSet(two), ShardSet(one)], "val")
    assert [each.tolist() for each in found] == [[], [0, 1]]
    with pytest.raises(InputError, match="split 'val'"):
        split_positions([ShardSet(two)], "val")


def test_the_same_set_twice_is_refused_however_it_is_named(tmp_path: Path, one: Index, two: Index) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(one.folder, copied)
    linked = tmp_path / "link"
    linked.symlink_to(one.folder)
    for other in (str(one.folder), f"{one.folder}/", str(copied), str(linked)):
        with pytest.raises(InputError, match=r"number 1 \(.*one\) and number 3 \(.*\) are the same shard set: name it"):
            open_sets(DataConfig(shards=(str(one.folder), str(two.folder), other)))


def test_sets_are_opened_in_order_and_may_move(tmp_path: Path, one: Index, two: Index) -> None:
    config = DataConfig(shards=(str(two.folder), str(one.folder)))
    assert [each.index.fingerprint for each in open_sets(config)] == [two.fingerprint, one.fingerprint]
    two.folder.rename(tmp_path / "elsewhere")
    again = open_sets(moved(config, [str(tmp_path / "elsewhere"), str(one.folder)]))
    assert again[0].index.fingerprint == two.fingerprint
    assert moved(config, None) is config
    with pytest.raises(InputError, match="names 1 shard set, the run was trained on 2"):
        moved(config, ["here"])
    with pytest.raises(InputError, match=r"data\.shards is not set"):
        open_sets(DataConfig())

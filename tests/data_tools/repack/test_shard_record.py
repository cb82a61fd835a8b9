from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.repack.shard_record import ShardRecord, is_packed, load_record, record_path, save_record
from data_tools.stats.moments import Moments
from mmae.data.shards.index_json import Loss, ShardInfo


def record(lost: tuple[Loss, ...], tiles: int = 2) -> ShardRecord:
    moments = Moments()
    moments.update("aster", np.arange(8, dtype=np.int16).reshape(2, 4))
    columns: dict[str, Any] = {"row": np.arange(tiles, dtype=np.int64), "size": np.ones((tiles, 3), np.uint32)}
    constants: dict[str, Any] = {"aster": np.zeros(tiles, np.int16), "lost": np.ones(tiles, np.float32)}
    info = ShardInfo("train-000000.tar", "train", tiles, 100, "ab" * 16)
    return ShardRecord(info, columns, constants, moments.arrays(), lost)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "train-000000.tar"
    path.write_bytes(bytes(100))
    return path


@pytest.mark.parametrize(
    "lost", [(), (Loss(3, "tile ä", "aster", "cannot be read"), Loss(9**12, "", "x" * 80, "what"))]
)
@pytest.mark.parametrize("tiles", [0, 2])
def test_a_record_comes_back(shard: Path, lost: tuple[Loss, ...], tiles: int) -> None:
    saved = record(lost, tiles)
    save_record(record_path(shard), saved)
    assert is_packed(shard)
    found = load_record(shard)
    assert found is not None
    assert (found.info, found.lost) == (saved.info, lost)
    for kind in ("columns", "constants", "moments"):
        expected, arrays = getattr(saved, kind), getattr(found, kind)
        assert arrays.keys() == expected.keys()
        for name in expected:
            assert arrays[name].dtype == expected[name].dtype
            assert np.array_equal(arrays[name], expected[name])


def test_what_is_not_as_recorded_is_not_packed(shard: Path) -> None:
    def packed() -> bool:
        assert is_packed(shard) == (load_record(shard) is not None)
        return is_packed(shard)

    assert not packed()
    save_record(record_path(shard), record(()))
    assert packed()
    os.truncate(shard, 99)
    assert not packed()
    shard.unlink()
    assert not packed()
    shard.write_bytes(bytes(100))
    assert packed()
    content = record_path(shard).read_bytes()
    for damaged in (b"", content[:-40], b"x" + content[1:]):
        record_path(shard).write_bytes(damaged)
        assert not packed()

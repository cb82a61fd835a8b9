from __future__ import annotations

import pickle
import resource
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.repack.job import Recipe, make_job
from data_tools.repack.shard_plan import PlannedShard
from data_tools.repack.shard_record import load_record
from data_tools.repack.work import ShardWork, pack_shard
from data_tools.source.chunks import find_places
from data_tools.source.dataset import open_source
from mmae.data.shards.index_json import Loss
from mmae.errors import InputError
from tests.support.counting import Count

Make = Callable[..., Any]
Damage = Callable[..., None]
ROWS = np.array([7, 2, 9, 4], np.int64)


def by_place(path: Path, out: Path, rows: Any = ROWS, on_error: Any = "raise", codec: str = "small") -> Any:
    """What a worker does."""
    shard = PlannedShard("train-000000.tar", "train", np.array(rows, np.int64))
    with open_source(path) as source:
        storage, chunks = find_places(source)
        job = make_job(source, shard, out / shard.name, chunks)
        recipe = Recipe(path, source.datasets, storage, codec, on_error, ("aster",))
        work, job = pickle.loads(pickle.dumps((ShardWork(recipe), job)))  # noqa: S301  (as it reaches a worker)
        tally = Count()
        record = work(job, tally)
    assert tally.tiles == len(rows)
    return record


def by_hdf5(path: Path, out: Path, rows: Any = ROWS, **how: Any) -> Any:
    """What a repair does."""
    with open_source(path) as source:
        shard = PlannedShard("train-000000.tar", "train", np.array(rows, np.int64))
        return pack_shard(source, shard, out / "other.tar", how.pop("codec", "small"), **how)


@pytest.mark.parametrize("codec", ["none", "fast", "small"])
@pytest.mark.parametrize("chunked", [True, False])
def test_both_ways_give_the_same_bytes(mmearth: Make, tmp_path: Path, chunked: bool, codec: str) -> None:
    data = mmearth(chunked=chunked)
    data.arrays["aster"] = data.arrays["aster"].astype(">i2")
    path = data.write(tmp_path)
    record, other = by_place(path, tmp_path, codec=codec), by_hdf5(path, tmp_path, codec=codec)
    assert (tmp_path / "train-000000.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    assert record.info.hash == other.info.hash
    assert record.columns["row"].tolist() == ROWS.tolist()
    assert load_record(tmp_path / "train-000000.tar") is not None
    assert not list(tmp_path.glob(".other*")), "a repaired shard has no record"


@pytest.mark.long
def test_real_tiles(shared: Path, tmp_path: Path) -> None:
    path = shared / "mini_mmearth" / "data_1M_v001_64" / "data_1M_v001_64.h5"
    rows = np.random.default_rng(0).permutation(360)[:40]
    with open_source(path) as source:
        assert set(find_places(source)[0]) == set(source.datasets), "all of MMEarth's layout is read by place"
    assert by_place(path, tmp_path, rows).info.hash == by_hdf5(path, tmp_path, rows).info.hash


def test_datasets_of_both_kinds(mmearth: Make, tmp_path: Path) -> None:
    path = mmearth().write(tmp_path)
    with h5py.File(path, "a") as file:
        values = file["sentinel1"][:]
        del file["sentinel1"]
        file.create_dataset("sentinel1", data=values, chunks=(5, 8, 8, 8), compression="lzf")
    with open_source(path) as source:
        assert set(source.datasets) - set(find_places(source)[0]) == {"sentinel1"}
    assert by_place(path, tmp_path).info.hash == by_hdf5(path, tmp_path).info.hash


@pytest.mark.parametrize("rows", [[], [3], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11] * 30])
def test_sizes_of_shards(mmearth: Make, tmp_path: Path, rows: list[int]) -> None:
    path = mmearth(size=1).write(tmp_path)
    record = by_place(path, tmp_path, rows)
    assert (record.info.tiles, record.columns["row"].tolist()) == (len(rows), rows)
    assert record.info.hash == by_hdf5(path, tmp_path, rows).info.hash


@pytest.mark.parametrize("dataset", ["sentinel2", "aster", "month"])
def test_a_damaged_tile_is_named(damage: Damage, source: Path, tmp_path: Path, dataset: str) -> None:
    damage(source, dataset, 9)
    for way in (by_place, by_hdf5):
        with pytest.raises(InputError) as caught:
            way(source, tmp_path)
        line = str(caught.value)
        assert line.startswith(f"{source}: row 9 (tile tile_4_l2a) of {dataset} cannot be read (")
        assert line.endswith("download the file again, or leave such tiles out with --on-error skip")
        assert "\n" not in line
    assert not list(tmp_path.glob("*.tar"))
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_tile_is_left_out(damage: Damage, source: Path, tmp_path: Path) -> None:
    whole = by_place(source, tmp_path)
    damage(source, "aster", 9)
    damage(source, "month", 4)
    damage(source, "sentinel2", 4)
    record, other = by_place(source, tmp_path, on_error="skip"), by_hdf5(source, tmp_path, on_error="skip")
    assert record.columns["row"].tolist() == [7, 2]
    assert [(loss.row, loss.tile_id, loss.dataset) for loss in record.lost] == [
        (9, "tile_4_l2a", "aster"),
        (4, "tile_2_l1c", "sentinel2"),
    ]
    assert all(loss.what.startswith("cannot be read (") for loss in record.lost)
    assert record.info.hash == other.info.hash == by_place(source, tmp_path, [7, 2]).info.hash
    assert record.info.hash != whole.info.hash
    assert load_record(tmp_path / "train-000000.tar").lost == ()  # type: ignore[union-attr]
    by_place(source, tmp_path, on_error="skip")
    assert load_record(tmp_path / "train-000000.tar").lost == record.lost  # type: ignore[union-attr]


def test_a_lost_tile_is_in_no_statistics(damage: Damage, source: Path, tmp_path: Path) -> None:
    expected = by_place(source, tmp_path, [7, 2]).moments
    damage(source, "month", 9)
    found = by_place(source, tmp_path, [7, 9, 2], "skip")
    assert found.lost[0] == Loss(9, "tile_4_l2a", "month", found.lost[0].what)
    assert {name: values.tolist() for name, values in found.moments.items()} == {
        name: values.tolist() for name, values in expected.items()
    }


def test_a_bomb_in_the_source(damage: Damage, source: Path, tmp_path: Path) -> None:
    damage(source, "sentinel1", 2, zlib.compress(bytes(1 << 20), 9))
    with pytest.raises(InputError, match=r"row 2 \(tile tile_1_l1c\) of sentinel1 cannot be read \(damaged"):
        by_place(source, tmp_path)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    had = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, had[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, had)


@pytest.mark.parametrize("size", [0, 5000, 100_000])
def test_no_room_for_the_shard(mmearth: Make, tmp_path: Path, size: int) -> None:
    path = mmearth(size=32).write(tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    with file_size_limit(size), pytest.raises(InputError) as caught:
        by_place(path, out, ROWS)
    assert "cannot be written (File too large): make room" in str(caught.value)
    assert list(out.iterdir()) == []


def test_a_source_that_went_away(source: Path, tmp_path: Path) -> None:
    with open_source(source) as opened:
        storage, chunks = find_places(opened)
        job = make_job(opened, PlannedShard("t.tar", "train", ROWS), tmp_path / "t.tar", chunks)
        work = ShardWork(Recipe(source, opened.datasets, storage, "small"))
    source.unlink()
    with pytest.raises(InputError, match=r"cannot be opened \(No such file or directory\): it is gone"):
        work(job, Count())
    work = ShardWork(Recipe(source, opened.datasets, {}, "small"))
    with pytest.raises(InputError, match=r"cannot be opened \(No such file"):
        work(job, Count())

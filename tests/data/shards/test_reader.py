from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data_tools.repack.shard_record import ShardRecord
from data_tools.repack.shard_writer import write_shard
from data_tools.repack.tile_packer import PackedTile, is_constant
from mmae.data.shards import open_files, read_plan
from mmae.data.shards.codec import encode
from mmae.data.shards.columns import Columns
from mmae.data.shards.index import Index, write_index
from mmae.data.shards.index_json import DatasetInfo, SourceInfo
from mmae.data.shards.reader import DamagedTile, ShardReader
from mmae.data.shards.tar_layout import extents
from mmae.errors import InputError

DATASETS = {
    "sentinel2": DatasetInfo(np.dtype("<u2"), (3, 16, 16)),
    "era5": DatasetInfo(np.dtype("<f4"), (12,)),
    "scalar": DatasetInfo(np.dtype("<i4"), ()),
}
COUNT = 6


def content(row: int) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "sentinel2": (np.arange(768, dtype=np.uint16) * (row + 1)).reshape(3, 16, 16),
        "era5": np.linspace(0, row, 12, dtype=np.float32),
        "scalar": np.array(row, np.int32),
    }
    if row % 2:
        arrays["sentinel2"][:] = 7
        arrays["era5"] = np.full(12, 0x7FC01234, np.uint32).view(np.float32)
    return arrays


def pack(row: int, codec: str) -> PackedTile:
    arrays = content(row)
    constants = {name: a.reshape(-1)[0:1].reshape(()) for name, a in arrays.items() if is_constant(a)}
    members = {name: encode(a, codec) for name, a in arrays.items() if name not in constants}
    return PackedTile(row, members, constants, b"{}")


def build(folder: Path, codec: str = "small") -> Index:
    """Six tiles in two shards; odd rows are constant everywhere."""
    records: list[ShardRecord] = []
    for number in range(2):
        rows = range(number * 3, number * 3 + 3)
        path = folder / f"train-{number:06d}.tar"
        records.append(write_shard(path, "train", (pack(row, codec) for row in rows), DATASETS))
    joined = {name: np.concatenate([record.columns[name] for record in records]) for name in records[0].columns}
    columns = Columns(
        **joined,
        split=np.zeros(COUNT, np.uint8),
        level=np.arange(COUNT, dtype=np.uint8) % 2,
        shard=np.repeat(np.arange(2, dtype=np.int32), 3),
        lat=np.zeros(COUNT),
        lon=np.zeros(COUNT),
        date=np.zeros(COUNT, np.int32),
        biome=np.zeros(COUNT, np.uint8),
        tile_id=np.array([b"x"] * COUNT),
    )
    return write_index(
        folder,
        columns=columns,
        constants={name: np.concatenate([record.constants[name] for record in records]) for name in DATASETS},
        datasets=DATASETS,
        band_stats={},
        shards=[record.info for record in records],
        splits=["train"],
        options={},
        source=SourceInfo("data.h5", 1, COUNT, "ff"),
    )


@pytest.mark.parametrize("codec", ["none", "fast", "small"])
def test_reads_back_every_bit(tmp_path: Path, codec: str) -> None:
    reader = ShardReader(build(tmp_path, codec), list(DATASETS))
    for row in (5, 0, 3, 1, 4, 2):
        tile = reader.read(row)
        assert (tile.row, tile.level) == (row, row % 2)
        for name, expected in content(row).items():
            array = tile.arrays[name]
            assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
            assert array.tobytes() == expected.tobytes()


def test_reads_a_subset_into_slots(tmp_path: Path) -> None:
    reader = ShardReader(build(tmp_path), ["era5"])
    out = {"era5": np.zeros((4, 12), np.float32)}
    reader.read_into(np.array([4, 0]), out, [2, 1])
    assert out["era5"][2].tobytes() == content(4)["era5"].tobytes()
    assert out["era5"][1].tobytes() == content(0)["era5"].tobytes()
    assert not out["era5"][[0, 3]].any()


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset 'sentinel1'; did you mean 'sentinel2'"):
        ShardReader(build(tmp_path), ["sentinel1"])


def flip(path: Path, offset: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[offset] ^= 1
    path.write_bytes(damaged)


def extent(index: Index, position: int, name: str) -> tuple[int, int]:
    """First byte and length of a member in its shard, header and padding included."""
    names = [*index.datasets, "json"]
    for column, start, length in extents(index.size[position].tolist(), int(index.info_size[position])):
        if names[column] == name:
            return int(index.offset[position]) + start, length
    raise AssertionError(name)


@pytest.mark.parametrize("place", [0, 511, 512, 530, -1], ids=["name", "header", "magic", "payload", "padding"])
@pytest.mark.parametrize("dataset", ["sentinel2", "era5"])
def test_damage_is_found_and_named(tmp_path: Path, dataset: str, place: int) -> None:
    index = build(tmp_path)
    offset, length = extent(index, 4, dataset)
    flip(tmp_path / "train-000001.tar", offset + place % length)
    reader = ShardReader(index, list(DATASETS))
    message = f"train-000001.tar: {dataset} of row 4 at byte {offset} is damaged .its checksum differs"
    with pytest.raises(DamagedTile, match=message) as caught:
        reader.read(4)
    assert (caught.value.row, caught.value.dataset, caught.value.offset) == (4, dataset, offset)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301
    for row in (3, 5):
        assert reader.read(row).row == row


def test_damaged_tiles_are_told_and_the_others_of_a_batch_are_read(tmp_path: Path) -> None:
    index = build(tmp_path)
    offset, _ = extent(index, 4, "sentinel2")
    flip(tmp_path / "train-000001.tar", offset)
    cut, length = extent(index, 2, "era5")
    os.truncate(tmp_path / "train-000000.tar", cut + length - 1)
    out = {name: np.zeros((COUNT, *info.shape), info.dtype) for name, info in DATASETS.items()}
    told: dict[int, DamagedTile] = {}
    order = [5, 4, 0, 2, 3]
    ShardReader(index, list(DATASETS)).read_into(np.array(order), out, [4, 3, 2, 1, 0], told.__setitem__)
    assert {slot: (error.row, error.dataset, error.offset) for slot, error in told.items()} == {
        3: (4, "sentinel2", offset),
        1: (2, "era5", cut),
    }
    for row, slot in ((5, 4), (0, 2), (3, 0)):
        for name, expected in content(row).items():
            assert out[name][slot].tobytes() == expected.tobytes()


@pytest.mark.parametrize("unread", ["sentinel2", "json"])
@pytest.mark.parametrize("place", [0, 513, -1], ids=["header", "payload", "padding"])
def test_damage_in_an_unread_member_does_not_disturb(tmp_path: Path, unread: str, place: int) -> None:
    index = build(tmp_path)
    offset, length = extent(index, 4, unread)
    flip(tmp_path / "train-000001.tar", offset + place % length)
    tile = ShardReader(index, ["era5"]).read(4)
    assert tile.arrays["era5"].tobytes() == content(4)["era5"].tobytes()


@pytest.mark.parametrize("skip", [0, 512], ids=["whole", "payload"])
def test_members_swapped_between_tiles_are_found(tmp_path: Path, skip: int) -> None:
    index = build(tmp_path, "none")
    path = tmp_path / "train-000000.tar"
    (first, length), (second, _) = extent(index, 0, "sentinel2"), extent(index, 2, "sentinel2")
    swapped = bytearray(path.read_bytes())
    a, b = slice(first + skip, first + length), slice(second + skip, second + length)
    swapped[a], swapped[b] = swapped[b], swapped[a]
    path.write_bytes(swapped)
    for row in (0, 2):
        with pytest.raises(DamagedTile, match=f"sentinel2 of row {row} "):
            ShardReader(index, ["sentinel2"]).read(row)
        assert ShardReader(index, ["era5", "scalar"]).read(row).row == row
    unchecked = ShardReader(index, ["sentinel2"], check=False).read(0)
    assert unchecked.arrays["sentinel2"].tobytes() == content(2)["sentinel2"].tobytes()


def test_without_checks_the_codec_still_guards(tmp_path: Path) -> None:
    index = build(tmp_path)
    flip(tmp_path / "train-000001.tar", int(index.offset[4]) + 512)
    with pytest.raises(DamagedTile, match=r"sentinel2 of row 4 .*not an array"):
        ShardReader(index, ["sentinel2"], check=False).read(4)


@pytest.mark.parametrize("left", [0, 1000])
def test_a_cut_shard(tmp_path: Path, left: int) -> None:
    index = build(tmp_path)
    os.truncate(tmp_path / "train-000000.tar", left)
    with pytest.raises(DamagedTile, match=r"era5 of row 2 .*the shard ends before it"):
        ShardReader(index, ["era5"]).read(2)


@pytest.mark.parametrize("check", [True, False])
def test_members_before_a_cut_are_read(tmp_path: Path, check: bool) -> None:
    index = build(tmp_path)
    offset, length = extent(index, 2, "era5")
    os.truncate(tmp_path / "train-000000.tar", offset + length - 1)
    assert ShardReader(index, ["sentinel2"], check).read(2).row == 2
    with pytest.raises(DamagedTile, match=f"era5 of row 2 at byte {offset} .*the shard ends before it"):
        ShardReader(index, ["era5"], check).read(2)


def test_swapped_shards_are_found(tmp_path: Path) -> None:
    index = build(tmp_path)
    first, second = (tmp_path / f"train-{number:06d}.tar" for number in range(2))
    first.rename(tmp_path / "x")
    second.rename(first)
    (tmp_path / "x").rename(second)
    with pytest.raises(DamagedTile):
        ShardReader(index, ["era5"]).read(2)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = build(tmp_path)
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(InputError, match=r"train-000000\.tar: cannot be read"):
        ShardReader(index, ["era5"]).read(2)


def test_opens_lazily_and_travels(tmp_path: Path) -> None:
    reader = ShardReader(build(tmp_path), ["era5"])
    reader.read(0)
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert copy.read(5).row == 5


def test_a_shard_cut_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    """A mapped file would end the process here."""
    reader = ShardReader(build(tmp_path), list(DATASETS))
    assert reader.read(2).row == 2
    os.truncate(tmp_path / "train-000000.tar", 0)
    with pytest.raises(DamagedTile, match="the shard ends before it does"):
        reader.read(2)


def test_a_failing_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ShardReader(build(tmp_path), list(DATASETS))

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(DamagedTile, match=r"sentinel2 of row 4 at byte \d+ is damaged .Input/output error"):
        reader.read(4)
    reader.will_need(np.arange(COUNT))
    monkeypatch.undo()
    assert reader.read(4).arrays["sentinel2"].tobytes() == content(4)["sentinel2"].tobytes()


@pytest.mark.parametrize("size", [DATASETS["sentinel2"].dtype.itemsize * 768 + 21, (1 << 32) - 1])
def test_a_member_larger_than_its_array_is_refused_before_memory_is_taken(tmp_path: Path, size: int) -> None:
    index = build(tmp_path)
    sizes = index.size.copy()
    sizes[4, 0] = size
    reader = ShardReader(replace(index, size=sizes), ["sentinel2"])
    with pytest.raises(DamagedTile, match=f"sentinel2 of row 4 .*{size} bytes, 1556 at most are expected"):
        reader.read(4)


def test_damage_does_not_outlive_its_tile(tmp_path: Path) -> None:
    index = build(tmp_path)
    offset, length = extent(index, 4, "sentinel2")
    path = tmp_path / "train-000001.tar"
    sound = path.read_bytes()
    expected = content(4)["sentinel2"].tobytes()
    reader = ShardReader(index, ["sentinel2"], check=False)
    assert reader.read(4).arrays["sentinel2"].tobytes() == expected
    errors = 0
    for place in range(offset + 512, offset + length, 7):
        flip(path, place)
        try:
            reader.read(4)
        except DamagedTile:
            errors += 1
        path.write_bytes(sound)
        assert reader.read(4).arrays["sentinel2"].tobytes() == expected
    assert errors > 0


def test_arrays_that_do_not_fit_are_not_called_damage(tmp_path: Path) -> None:
    reader = ShardReader(build(tmp_path), ["sentinel2"])
    for wrong in (
        np.zeros((2, 3, 16, 16), np.int16),
        np.zeros((2, 3, 16, 15), np.uint16),
        np.zeros((3, 16, 16), np.uint16),
        np.zeros((2, 16, 16, 3), np.uint16).transpose(0, 3, 1, 2),
        np.frombuffer(bytes(2 * 768 * 2), np.uint16).reshape(2, 3, 16, 16),
    ):
        with pytest.raises(ValueError, match="slots"):
            reader.read_into(np.array([4]), {"sentinel2": wrong}, [0])
    for slot in (-1, 2):
        with pytest.raises(IndexError):
            reader.read_into(np.array([4]), {"sentinel2": np.zeros((2, 3, 16, 16), np.uint16)}, [slot])


def test_members_that_stand_together_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = build(tmp_path)
    reads: list[int] = []
    preadv = os.preadv

    def count(file: int, buffers: Sequence[memoryview], offset: int) -> int:
        reads.append(offset)
        return preadv(file, buffers, offset)

    monkeypatch.setattr(os, "preadv", count)
    ShardReader(index, list(DATASETS)).read(4)
    assert reads == [index.offset[4]]
    reads.clear()
    ShardReader(index, ["sentinel2", "scalar"]).read(1)
    assert reads == [], "everything is constant"
    monkeypatch.setattr(read_plan, "_WORTH_A_READ", 0)
    tile = ShardReader(index, ["sentinel2", "scalar"]).read(4)
    assert tile.arrays["sentinel2"].tobytes() == content(4)["sentinel2"].tobytes()
    assert len(reads) == 1
    ShardReader(wide(tmp_path / "wide"), ["a", "c"]).read(0)
    assert len(reads) == 3, "b is not worth a read"


def wide(folder: Path) -> Index:
    """One tile of three datasets."""
    folder.mkdir()
    infos = {name: DatasetInfo(np.dtype("<u1"), (64,)) for name in "abc"}
    tile = PackedTile(0, {name: encode(np.arange(64, dtype=np.uint8)) for name in "abc"}, {}, b"{}")
    record = write_shard(folder / "train-000000.tar", "train", [tile], infos)
    columns = Columns(
        **record.columns,
        split=np.zeros(1, np.uint8),
        level=np.zeros(1, np.uint8),
        shard=np.zeros(1, np.int32),
        lat=np.zeros(1),
        lon=np.zeros(1),
        date=np.zeros(1, np.int32),
        biome=np.zeros(1, np.uint8),
        tile_id=np.array([b"x"]),
    )
    return write_index(
        folder,
        columns=columns,
        constants=record.constants,
        datasets=infos,
        band_stats={},
        shards=[record.info],
        splits=["train"],
        options={},
        source=SourceInfo("data.h5", 1, 1, "ff"),
    )


class Elsewhere:
    """A store whose shards lie in another folder; counts what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[int] = []

    def path(self, shard: int) -> Path:
        self.asked.append(shard)
        found = self.folder / f"fetched-{shard}"
        if not found.exists():
            raise InputError(f"{found}: cannot be fetched")
        return found


def test_a_store_says_where_shards_are(tmp_path: Path) -> None:
    index = build(tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "train-000001.tar").rename(tmp_path / "cache" / "fetched-1")
    (tmp_path / "train-000000.tar").unlink()
    store = Elsewhere(tmp_path / "cache")
    reader = ShardReader(index, list(DATASETS), store=store)
    reader.will_need(np.arange(COUNT))
    assert store.asked == [], "reading ahead does not fetch"
    assert reader.read(4).row == 4
    assert reader.read(5).row == 5
    assert store.asked == [1]
    with pytest.raises(InputError, match="fetched-0: cannot be fetched"):
        reader.read(2)
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert copy.read(4).row == 4


def test_the_next_tiles_are_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = build(tmp_path)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, offset, length, _advice: asked.append((offset, length)))
    reader = ShardReader(index, ["sentinel2", "era5"])
    reader.will_need(np.array([0, 4]))
    assert asked == [], "it was written just now, and is in memory still"
    monkeypatch.setattr(open_files, "_in_memory", lambda _file, _offset: False)
    reader.will_need(np.array([0, 4, 1]))
    lengths = [sum(extent(index, 0, "sentinel2")[1:]), extent(index, 4, "sentinel2")[1] + extent(index, 4, "era5")[1]]
    assert asked[:2] == [(index.offset[0], lengths[0]), (index.offset[4], lengths[1])]
    assert asked[2][1] == 0
    reader.will_need(np.zeros(0, np.int64))


def test_reading_ahead_ignores_a_missing_shard(tmp_path: Path) -> None:
    reader = ShardReader(build(tmp_path), list(DATASETS))
    (tmp_path / "train-000000.tar").unlink()
    reader.will_need(np.arange(COUNT))
    assert reader.read(4).row == 4

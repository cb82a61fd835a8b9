from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data_tools.pack import PackedTile, is_constant
from data_tools.shards import ShardRecord, write_shard
from mmae.data import reader as reader_module
from mmae.data.codec import encode
from mmae.data.index import Columns, DatasetInfo, Index, SourceInfo, write_index
from mmae.data.layout import extents
from mmae.data.reader import DamagedTile, ShardReader
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
    reader.read_into(4, out, 2)
    assert out["era5"][2].tobytes() == content(4)["era5"].tobytes()
    assert not out["era5"][[0, 1, 3]].any()


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
        ShardReader(index, ["era5"]).read(0)


def test_opens_lazily_and_travels(tmp_path: Path) -> None:
    reader = ShardReader(build(tmp_path), ["era5"])
    reader.read(0)
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301
    assert copy.read(5).row == 5


def test_open_shards_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "MAX_OPEN_SHARDS", 1)
    opened: list[Path] = []
    mapped: Callable[[Path], memoryview] = reader_module._map

    def count(path: Path) -> memoryview:
        opened.append(path)
        return mapped(path)

    monkeypatch.setattr(reader_module, "_map", count)
    reader = ShardReader(build(tmp_path), ["era5"])
    for position in (0, 1, 3, 4, 0):
        assert reader.read(position).row == position
    assert len(opened) == 3

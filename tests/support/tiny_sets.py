"""Small shard sets on disk, written from plain arrays by the format's own description, and ways to damage them."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmae.data.shards.codec import encode
from mmae.data.shards.columns import Columns
from mmae.data.shards.index import Index, write_index
from mmae.data.shards.index_json import DatasetInfo, ShardInfo, SourceInfo
from mmae.data.shards.tar_layout import extents, info_name, member_checksum, member_name, shard_name, spans

ROWS = [5, 3, 9, 11, 2, 8, 20]
"""Source rows of a training split, in stored order."""

DATASETS = MappingProxyType(
    {
        "sentinel2": DatasetInfo(np.dtype("<u2"), (13, 8, 8)),
        "aster": DatasetInfo(np.dtype("<i2"), (2, 8, 8)),
    }
)
STATS = MappingProxyType(
    {
        "sentinel2_l1c": {"mean": [1000.0] * 13, "std": [500.0] * 13},
        "sentinel2_l2a": {"mean": [1000.0] * 13, "std": [500.0] * 13},
        "aster": {"mean": [100.0, 1.0], "std": [50.0, 1.0]},
    }
)


def pixels(row: int, name: str, info: DatasetInfo) -> NDArray[Any]:
    """What a tile holds: noise that its row alone decides."""
    draw = np.random.default_rng([row, len(name)])
    return draw.integers(1, 900, info.shape).astype(info.dtype)


Pixels = Callable[[int, str, DatasetInfo], NDArray[Any]]


def write_set(
    folder: Path,
    splits: Mapping[str, Sequence[int]],
    shard_tiles: int = 4,
    datasets: Mapping[str, DatasetInfo] = DATASETS,
    places: Mapping[int, tuple[float, float]] | None = None,
    pixels_of: Pixels = pixels,
    biomes: Mapping[int, int] = MappingProxyType({}),
    dates: Mapping[int, int] = MappingProxyType({}),
    stats: Mapping[str, Any] = STATS,
) -> Index:
    """A set whose tiles are the given source rows of each split; the id of row 7 is `tile-7`.

    Args:
        places: row -> degrees north and east; None: nothing is known of places.
        pixels_of: (row, dataset, its info) -> what a tile holds.
        biomes, dates: row -> biome, and date as yyyymmdd; 0 where nothing is said.
    """
    folder.mkdir(parents=True)
    shards: list[ShardInfo] = []
    parts: list[dict[str, NDArray[Any]]] = []
    for split, rows in splits.items():
        for number, first in enumerate(range(0, len(rows), shard_tiles)):
            some = rows[first : first + shard_tiles]
            path = folder / shard_name(split, number)
            part = _write_shard(path, some, datasets, pixels_of)
            content = path.read_bytes()
            info = ShardInfo(path.name, split, len(some), len(content), xxhash.xxh3_128_hexdigest(content))
            part["shard"] = np.full(len(some), len(shards), np.int32)
            part["split"] = np.full(len(some), list(splits).index(split), np.uint8)
            shards.append(info)
            parts.append(part)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    count = len(joined["row"])
    columns = Columns(
        **joined,
        level=(joined["row"] % 2).astype(np.uint8),
        lat=np.full(count, np.nan) if places is None else np.array([places[row][0] for row in joined["row"]]),
        lon=np.full(count, np.nan) if places is None else np.array([places[row][1] for row in joined["row"]]),
        date=np.array([dates.get(row, 0) for row in joined["row"].tolist()], np.int32),
        biome=np.array([biomes.get(row, 0) for row in joined["row"].tolist()], np.uint8),
        tile_id=np.array([f"tile-{row}".encode() for row in joined["row"]]),
    )
    return write_index(
        folder,
        columns=columns,
        constants={name: np.zeros(count, info.dtype) for name, info in datasets.items()},
        datasets=datasets,
        band_stats=dict(stats),
        shards=shards,
        splits=list(splits),
        options={},
        source=SourceInfo("data.h5", 1, 1000, "ff"),
    )


def _write_shard(
    path: Path, rows: Sequence[int], datasets: Mapping[str, DatasetInfo], pixels_of: Pixels
) -> dict[str, NDArray[Any]]:
    sizes: list[list[int]] = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            members = {member_name(row, name): encode(pixels_of(row, name, info)) for name, info in datasets.items()}
            sizes.append([len(content) for content in members.values()])
            for name, content in (members | {info_name(row): b"{}"}).items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, BytesIO(content))
    size, info_size = np.array(sizes, np.uint32), np.full(len(rows), 2, np.uint32)
    span = spans(size, info_size)
    offset = np.cumsum(span) - span
    content = path.read_bytes()
    checksum = [
        [member_checksum(content[begin + start : begin + start + length]) for _, start, length in extents(each, 2)]
        for begin, each in zip(offset.tolist(), sizes, strict=True)
    ]
    return {
        "row": np.array(rows, np.int64),
        "offset": offset,
        "size": size,
        "info_size": info_size,
        "checksum": np.array(checksum, np.uint32),
    }


def damage(index: Index, row: int, dataset: str = "aster") -> int:
    """Flip a bit in the payload of a tile's array; returns the byte of the shard where its member begins."""
    position = int(np.flatnonzero(index.row == row)[0])
    path = index.folder / index.shards[int(index.shard[position])].name
    column = list(index.datasets).index(dataset)
    extent = list(extents(index.size[position].tolist(), index.info_size.item(position)))[column]
    begin = int(index.offset[position]) + extent[1]
    content = bytearray(path.read_bytes())
    content[begin + 512 + 40] ^= 1
    path.write_bytes(content)
    return begin


def sign(path: Path, head: dict[str, Any]) -> None:
    """Write a head as if it had always been so: with the digest of its content."""

    def text(content: dict[str, Any]) -> bytes:
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    head = {key: value for key, value in head.items() if key != "digest"}
    path.write_bytes(text(head | {"digest": xxhash.xxh3_128_hexdigest(text(head))}))

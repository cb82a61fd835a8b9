"""The index's facts about each tile: one array for each attribute, checked for contradictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.shards.tar_layout import member_bytes, spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN_DATE: Final = 0
UNKNOWN_BIOME: Final = 255

_CHUNK_TILES: Final = 1 << 16


@dataclass(frozen=True, eq=False)
class Columns:
    """One entry a tile (N), in stored order; D datasets in the order of the index.

    Attributes:
        row: int64, row in the source file.
        split: uint8, index into the index's splits.
        level: uint8, index into `modalities.S2_LEVELS`.
        shard: int32, index into the index's shards.
        offset: int64, byte of its shard where the tile's first tar header begins.
        checksum: uint32 (N, D + 1), of each member and, last, of the `.json` member: the low 32 bits of xxh3-64
            over its header, payload and padding, so that a member can be checked alone; 0: no member.
        size: uint32 (N, D), payload bytes of each member; 0: no member, the array is constant over the tile.
        info_size: uint32, payload bytes of the `.json` member.
        lat, lon: float64 degrees, NaN where unknown.
        date: int32 yyyymmdd of the Sentinel-2 image, 0 where unknown.
        biome: uint8, 255 where unknown.
        tile_id: fixed-width UTF-8 bytes.
    """

    row: NDArray[np.int64]
    split: NDArray[np.uint8]
    level: NDArray[np.uint8]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    checksum: NDArray[np.uint32]
    size: NDArray[np.uint32]
    info_size: NDArray[np.uint32]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    date: NDArray[np.int32]
    biome: NDArray[np.uint8]
    tile_id: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.row)

    def span_of(self, position: int) -> int:
        """Bytes of a tile in its shard, headers and padding included."""
        members = sum(member_bytes(size) for size in self.size[position].tolist() if size > 0)
        return members + member_bytes(self.info_size.item(position))


DTYPES: Final = MappingProxyType(
    {
        "row": "<i8",
        "split": "|u1",
        "level": "|u1",
        "shard": "<i4",
        "offset": "<i8",
        "checksum": "<u4",
        "size": "<u4",
        "info_size": "<u4",
        "lat": "<f8",
        "lon": "<f8",
        "date": "<i4",
        "biome": "|u1",
    }
)


def check_types(columns: Columns, datasets: int) -> None:
    """Raise ValueError if a column has another dtype or shape than it should."""
    count = len(columns)
    wide = {"size": (count, datasets), "checksum": (count, datasets + 1)}
    for name, dtype in DTYPES.items():
        column = getattr(columns, name)
        if column.dtype != np.dtype(dtype) or column.shape != wide.get(name, (count,)):
            raise ValueError(f"column {name} is {column.dtype} {column.shape}")
    if columns.tile_id.dtype.kind != "S" or columns.tile_id.shape != (count,):
        raise ValueError("column tile_id")


def chunks(count: int) -> Iterator[slice]:
    """Slices that cover `count` tiles, so that millions of tiles need no temporary array of their size."""
    return (slice(begin, begin + _CHUNK_TILES) for begin in range(0, count, _CHUNK_TILES))


def check_values(
    columns: Columns,
    part: slice,
    known: Mapping[str, int],
    shard_bytes: NDArray[np.int64],
    shard_split: NDArray[np.uint8],
) -> None:
    """Raise ValueError if tiles of a part contradict one another or the rest of the index.

    Args:
        known: column -> number of allowed values, which are 0 .. number - 1.
        shard_bytes: size of each shard.
        shard_split: split of each shard.
    """
    for name, end in known.items():
        column: NDArray[Any] = getattr(columns, name)[part]
        if not 0 <= int(column.min()) <= int(column.max()) < end:
            raise ValueError(f"column {name} is out of range")
    size, offset, shard = columns.size[part], columns.offset[part], columns.shard[part]
    if not np.array_equal(shard_split[shard], columns.split[part]):
        raise ValueError("a tile is in a shard of another split")
    if bool(columns.checksum[part, :-1][size == 0].any()):
        raise ValueError("checksums of members that are not there")
    ends = offset + spans(size, columns.info_size[part])
    if int(offset.min()) < 0 or bool((ends > shard_bytes[shard]).any()):
        raise ValueError("a tile lies beyond the end of its shard")

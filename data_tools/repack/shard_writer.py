"""Writing tar shards: a shard is written whole or not at all, and equal tiles give equal bytes."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from data_tools.repack.shard_record import ShardRecord, record_path, save_record
from data_tools.repack.tar_header import end, header, padding
from data_tools.repack.tile_packer import PackedTile
from mmae.data.shards.index_json import DatasetInfo, ShardInfo
from mmae.data.shards.tar_layout import extents, info_name, member_checksum, member_name, spans
from mmae.disk.content_hash import stream_hash
from mmae.disk.files import atomic_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.stats.moments import Moments
    from mmae.data.shards.index_json import Loss

_WRITE_BYTES: Final = 1 << 20


def write_shard(
    path: Path,
    split: str,
    tiles: Iterable[PackedTile],
    datasets: Mapping[str, DatasetInfo],
    lost: Sequence[Loss] = (),
    moments: Moments | None = None,
    recorded: bool = True,
) -> ShardRecord:
    """Write a shard. Its record is written before the shard gets its name, so a shard with a name is complete.

    Args:
        tiles: in the order in which they are stored.
        lost: tiles that had to be left out; read after `tiles` has ended.
        moments: statistics of the packed tiles; read after `tiles` has ended.
        recorded: save the record beside the shard.

    Raises:
        InputError: from `tiles`; nothing is left of the shard then.
        OSError: the disk is full, or fails.
    """
    with atomic_file(path) as file:
        packed = list(_write_tar(file, tiles))
        file.flush()
        statistics = moments.arrays() if moments is not None else {}
        record = _record(file, path.name, split, packed, datasets, statistics, tuple(lost))
        if recorded:
            save_record(record_path(path), record)
    return record


@dataclass(frozen=True)
class _Written:
    """The facts on a tile that stay in memory after its bytes are in the tar."""

    row: int
    sizes: Mapping[str, int]
    constants: Mapping[str, NDArray[Any]]
    info_size: int


def _write_tar(file: IO[bytes], tiles: Iterable[PackedTile]) -> Iterator[_Written]:
    total = waiting = 0
    parts: list[bytes] = []
    for tile in tiles:
        begin = len(parts)
        for name, payload in tile.members.items():
            parts += (header(member_name(tile.row, name), len(payload)), payload, padding(len(payload)))
        parts += (header(info_name(tile.row), len(tile.info)), tile.info, padding(len(tile.info)))
        waiting += sum(map(len, parts[begin:]))
        if waiting >= _WRITE_BYTES:
            total += file.write(b"".join(parts))
            parts, waiting = [], 0
        sizes = {name: len(payload) for name, payload in tile.members.items()}
        yield _Written(tile.row, sizes, tile.constants, len(tile.info))
    total += file.write(b"".join(parts))
    file.write(end(total))


def _record(
    file: IO[bytes],
    name: str,
    split: str,
    written: Sequence[_Written],
    datasets: Mapping[str, DatasetInfo],
    moments: Mapping[str, NDArray[Any]],
    lost: tuple[Loss, ...],
) -> ShardRecord:
    size = np.array([[tile.sizes.get(key, 0) for key in datasets] for tile in written], np.uint32)
    size = size.reshape(len(written), len(datasets))
    info_size = np.array([tile.info_size for tile in written], np.uint32)
    span = spans(size, info_size)
    offset = np.cumsum(span) - span
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
        # The file is read back, so that the checksums are those of the bytes on the disk.
        checksum = _checksums(view, offset, size, info_size)
        info = ShardInfo(name, split, len(written), len(view), xxhash.xxh3_128_hexdigest(view))
    columns = {
        "row": np.array([tile.row for tile in written], np.int64),
        "offset": offset,
        "checksum": checksum,
        "size": size,
        "info_size": info_size,
    }
    constants = {key: _constants(key, info_of.dtype, written) for key, info_of in datasets.items()}
    return ShardRecord(info, columns, constants, moments, lost)


def _checksums(
    view: memoryview, offset: NDArray[np.int64], size: NDArray[np.uint32], info_size: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """A shard's part of `index.Columns.checksum`."""
    checksum = np.zeros((len(size), size.shape[1] + 1), np.uint32)
    tiles = zip(offset.tolist(), size.tolist(), info_size.tolist(), strict=True)
    for number, (begin, sizes, of_info) in enumerate(tiles):
        for column, start, length in extents(sizes, of_info):
            checksum[number, column] = member_checksum(view[begin + start : begin + start + length])
    return checksum


def _constants(name: str, dtype: np.dtype[Any], written: Sequence[_Written]) -> NDArray[Any]:
    values = np.zeros(len(written), dtype)
    for number, tile in enumerate(written):
        if name in tile.constants:
            values[number] = tile.constants[name]
    return values


def file_hash(path: Path) -> str:
    """xxh3-128 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return stream_hash(file)

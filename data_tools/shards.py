"""Tar shards: written whole or not at all, the same bytes for the same tiles."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from data_tools.pack import PackedTile
from mmae.data.atomic import atomic_file
from mmae.data.index import DatasetInfo, ShardInfo
from mmae.data.layout import extents, info_name, member_checksum, member_name, spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CONSTANT: Final = "constant."
_HASH_CHUNK: Final = 1 << 24


@dataclass(frozen=True, eq=False)
class ShardRecord:
    """What the index needs to know about one shard.

    Attributes:
        info: name, split, tiles, bytes, hash.
        columns: row, offset, span, checksum, size, info_size as in `index.Columns`, one entry a tile.
        constants: dataset -> (tiles,) of its dtype, 0 where the array is not constant.
    """

    info: ShardInfo
    columns: Mapping[str, NDArray[Any]]
    constants: Mapping[str, NDArray[Any]]


def record_path(shard: Path) -> Path:
    """Where a shard's record lies until the index takes it over."""
    return shard.with_name(f".{shard.stem}.npz")


def write_shard(
    path: Path, split: str, tiles: Iterable[PackedTile], datasets: Mapping[str, DatasetInfo]
) -> ShardRecord:
    """Write a shard and, before it takes its name, its record: a shard under its name is whole and recorded.

    Raises:
        InputError: from `tiles`; nothing is left of the shard then.
    """
    with atomic_file(path) as file:
        packed = list(_write_tar(file, tiles))
        file.flush()
        record = _record(file, path.name, split, packed, datasets)
        _save_record(record_path(path), record)
    return record


@dataclass(frozen=True)
class _Written:
    """What remains of a tile in memory once its bytes are in the tar."""

    row: int
    sizes: Mapping[str, int]
    constants: Mapping[str, NDArray[Any]]
    info_size: int


def _write_tar(file: IO[bytes], tiles: Iterable[PackedTile]) -> Iterable[_Written]:
    from webdataset import TarWriter

    with TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False, compress=False) as writer:
        for tile in tiles:
            members = {member_name(tile.row, name): payload for name, payload in tile.members.items()}
            # One call a member: within a call the writer sorts by name, and the order of members is the format's.
            for name, payload in (members | {info_name(tile.row): tile.info}).items():
                key, _, extension = name.partition(".")
                writer.write({"__key__": key, extension: payload})
            sizes = {name: len(payload) for name, payload in tile.members.items()}
            yield _Written(tile.row, sizes, tile.constants, len(tile.info))


def _record(
    file: IO[bytes], name: str, split: str, written: Sequence[_Written], datasets: Mapping[str, DatasetInfo]
) -> ShardRecord:
    size = np.array([[tile.sizes.get(key, 0) for key in datasets] for tile in written], np.uint32)
    size = size.reshape(len(written), len(datasets))
    info_size = np.array([tile.info_size for tile in written], np.uint32)
    span = spans(size, info_size)
    offset = np.cumsum(span) - span
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
        # Read back: the checksums are those of what was written, not of what was meant.
        checksum = _checksums(view, offset, size, info_size)
        info = ShardInfo(name, split, len(written), len(view), xxhash.xxh3_128_hexdigest(view))
    constants = {key: _constants(key, info_of.dtype, written) for key, info_of in datasets.items()}
    columns = {
        "row": np.array([tile.row for tile in written], np.int64),
        "offset": offset,
        "span": span,
        "checksum": checksum,
        "size": size,
        "info_size": info_size,
    }
    return ShardRecord(info, columns, constants)


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


def _save_record(path: Path, record: ShardRecord) -> None:
    info = record.info
    arrays = {**record.columns, **{_CONSTANT + name: values for name, values in record.constants.items()}}
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, info=np.array([info.split, str(info.bytes), info.hash]), **arrays)


def load_record(path: Path) -> ShardRecord | None:
    """The record of the finished shard at `path`; None where there is no such shard, or it is not as recorded."""
    try:
        with np.load(record_path(path), allow_pickle=False) as stored:
            arrays = dict(stored)
        split, size, digest = arrays.pop("info").tolist()
        if path.stat().st_size != int(size) or file_hash(path) != digest:
            return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    constants = {name[len(_CONSTANT) :]: values for name, values in arrays.items() if name.startswith(_CONSTANT)}
    columns = {name: values for name, values in arrays.items() if not name.startswith(_CONSTANT)}
    return ShardRecord(ShardInfo(path.name, split, len(columns["row"]), int(size), digest), columns, constants)


def file_hash(path: Path) -> str:
    """xxh3-128 of a file's content, hexadecimal."""
    hasher = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()

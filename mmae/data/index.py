"""The index of a shard folder: what is in it and where, `index.json` and `index.npz`.

The JSON is written last and holds the hash of the arrays: a folder with `index.json` is a finished set.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from mmae.data.atomic import atomic_file
from mmae.data.layout import spans
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT: Final = "mmae-shards"
VERSION: Final = 1
JSON_NAME: Final = "index.json"
NPZ_NAME: Final = "index.npz"
UNKNOWN_DATE: Final = 0
UNKNOWN_BIOME: Final = 255

_CONSTANT: Final = "constant."
_SHARD_NAME: Final = re.compile(r"\w+-\d{6,}\.tar")


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset's stored dtype and the shape of one tile, without the tile axis."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ShardInfo:
    """One tar file: its name, split, tiles, size in bytes, and xxh3-128 of its content in hexadecimal."""

    name: str
    split: str
    tiles: int
    bytes: int
    hash: str


@dataclass(frozen=True)
class SourceInfo:
    """The HDF5 file that was packed: its name without folders, bytes, rows, and a fingerprint."""

    name: str
    bytes: int
    rows: int
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Columns:
    """One entry a tile (N), in stored order; D datasets in the order of the index.

    Attributes:
        row: int64, row in the source file.
        split: uint8, index into the index's splits.
        level: uint8, index into `modalities.S2_LEVELS`.
        shard: int32, index into the index's shards.
        offset: int64, byte of its shard where the tile's first tar header begins.
        span: int64, bytes of the tile in its shard, headers and padding included.
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
    span: NDArray[np.int64]
    checksum: NDArray[np.uint32]
    size: NDArray[np.uint32]
    info_size: NDArray[np.uint32]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    date: NDArray[np.int32]
    biome: NDArray[np.uint8]
    tile_id: NDArray[np.bytes_]


_DTYPES: Final = MappingProxyType(
    {
        "row": "<i8",
        "split": "|u1",
        "level": "|u1",
        "shard": "<i4",
        "offset": "<i8",
        "span": "<i8",
        "checksum": "<u4",
        "size": "<u4",
        "info_size": "<u4",
        "lat": "<f8",
        "lon": "<f8",
        "date": "<i4",
        "biome": "|u1",
    }
)


@dataclass(frozen=True, eq=False)
class Index(Columns):
    """A shard folder's index: `Columns`, and what holds for the whole set.

    Attributes:
        folder: where the shards lie.
        fingerprint: identity of this shard set: a hash of its content, whatever folder it lies in.
        datasets: name -> stored dtype and tile shape; the order is that of members in a tile.
        constants: name -> (N,) of the dataset's dtype, the value of tiles whose array is constant (else 0).
        band_stats: MMEarth's statistics file.
        shards: the tar files, in the order of `shard`.
        splits: names, in the order of `split`; a split may have no tile.
        options: what `mmae repack` was asked for.
        source: the file that was packed.
    """

    folder: Path
    fingerprint: str
    datasets: Mapping[str, DatasetInfo]
    constants: Mapping[str, NDArray[Any]]
    band_stats: Mapping[str, Any]
    shards: tuple[ShardInfo, ...]
    splits: tuple[str, ...]
    options: Mapping[str, Any]
    source: SourceInfo

    def __len__(self) -> int:
        return len(self.row)

    def positions(self, split: str) -> NDArray[np.int64]:
        """Positions of a split's tiles in stored order, int64, at least one.

        Raises:
            InputError: no such split, or no tile in it.
        """
        if split not in self.splits:
            raise InputError(f"{self.folder}: no split {split!r} (splits: {', '.join(self.splits)})")
        found = np.flatnonzero(self.split == self.splits.index(split)).astype(np.int64, copy=False)
        if len(found) == 0:
            remedy = {
                "train": "repack a source whose splits file puts tiles into train",
                "val": "repack with --val-fraction F to take one out of train",
            }.get(split, "choose another split")
            raise InputError(f"{self.folder}: split {split!r} has no tile: {remedy}")
        return found


def write_index(
    folder: Path,
    *,
    columns: Columns,
    constants: Mapping[str, NDArray[Any]],
    datasets: Mapping[str, DatasetInfo],
    band_stats: Mapping[str, Any],
    shards: Sequence[ShardInfo],
    splits: Sequence[str],
    options: Mapping[str, Any],
    source: SourceInfo,
) -> Index:
    """Write both files, the JSON last because it commits, and open them again.

    `band_stats` and `options` must be standard JSON (no NaN). The bytes depend on the arguments only.
    """
    arrays = {field.name: getattr(columns, field.name) for field in fields(Columns)}
    arrays |= {_CONSTANT + name: constants[name] for name in datasets}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    head = {
        "format": FORMAT,
        "version": VERSION,
        "datasets": [[name, info.dtype.str, list(info.shape)] for name, info in datasets.items()],
        "splits": list(splits),
        "shards": [asdict(shard) for shard in shards],
        "options": dict(options),
        "source": asdict(source),
        "band_stats": dict(band_stats),
        "arrays": xxhash.xxh3_128_hexdigest(content),
    }
    with atomic_file(folder / NPZ_NAME) as file:
        file.write(content)
    with atomic_file(folder / JSON_NAME) as file:
        file.write((json.dumps(head, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
    return open_index(folder)


def open_index(folder: Path | str) -> Index:
    """The index of a shard folder, checked.

    Raises:
        InputError: no such folder, no finished set in it, one of a newer format, or a damaged index.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: give the folder that `mmae repack SRC OUT` wrote")
    try:
        text = (folder / JSON_NAME).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{folder}: no {JSON_NAME}, so no finished shards: run mmae repack SRC {folder}") from None
    except OSError as error:
        raise InputError(f"{folder / JSON_NAME}: cannot be read ({error.strerror})") from None
    head = _parse(text, folder / JSON_NAME)
    try:
        return _build(folder, xxhash.xxh3_128_hexdigest(text), head)
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(folder, str(error) or type(error).__name__) from error


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"{folder}: the index is damaged ({what}): repack, or copy the folder again")


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    try:
        head = json.loads(text)
    except ValueError:
        raise InputError(f"{path}: not JSON: repack, or copy the folder again") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise InputError(f"{path}: not an index of mmae shards: give the folder that `mmae repack SRC OUT` wrote")
    version = head.get("version")
    if not isinstance(version, int) or version < 1:
        raise InputError(f"{path}: format {version!r} is none: repack")
    if version > VERSION:
        raise InputError(
            f"{path}: written by a newer mmae (format {version}, this one reads {VERSION}): upgrade mmae, or repack"
        )
    return head


def _build(folder: Path, fingerprint: str, head: Mapping[str, Any]) -> Index:
    datasets = {name: DatasetInfo(np.dtype(dtype), tuple(shape)) for name, dtype, shape in head["datasets"]}
    arrays = _load_arrays(folder, head["arrays"])
    index = Index(
        **{field.name: arrays[field.name] for field in fields(Columns)},
        folder=folder,
        fingerprint=fingerprint,
        datasets=datasets,
        constants={name: arrays[_CONSTANT + name] for name in datasets},
        band_stats=head["band_stats"],
        shards=tuple(ShardInfo(**shard) for shard in head["shards"]),
        splits=tuple(head["splits"]),
        options=head["options"],
        source=SourceInfo(**head["source"]),
    )
    _check(index)
    return index


def _load_arrays(folder: Path, expected: str) -> dict[str, NDArray[Any]]:
    try:
        content = (folder / NPZ_NAME).read_bytes()
    except OSError:
        raise InputError(f"{folder}: {NPZ_NAME} is missing: repack, or copy the folder again") from None
    if xxhash.xxh3_128_hexdigest(content) != expected:
        raise InputError(f"{folder}: {NPZ_NAME} does not belong to {JSON_NAME}: repack, or copy the folder again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _check(index: Index) -> None:
    """Raise ValueError where the columns contradict one another: readers trust offsets without looking."""
    count = len(index)
    wide = {"size": (count, len(index.datasets)), "checksum": (count, len(index.datasets) + 1)}
    for name, dtype in _DTYPES.items():
        column = getattr(index, name)
        if column.dtype != np.dtype(dtype) or column.shape != wide.get(name, (count,)):
            raise ValueError(f"column {name} is {column.dtype} {column.shape}")
    for name, info in index.datasets.items():
        if index.constants[name].dtype != info.dtype or index.constants[name].shape != (count,):
            raise ValueError(f"constants of {name}")
    if index.tile_id.dtype.kind != "S" or index.tile_id.shape != (count,):
        raise ValueError("column tile_id")
    if count == 0:
        return
    if not all(_SHARD_NAME.fullmatch(shard.name) for shard in index.shards):
        raise ValueError("a shard's name is not <split>-<number>.tar")
    for name, known in (("split", len(index.splits)), ("shard", len(index.shards)), ("level", len(S2_LEVELS))):
        if not 0 <= int(getattr(index, name).min()) <= int(getattr(index, name).max()) < known:
            raise ValueError(f"column {name} is out of range")
    _check_places(index)


def _check_places(index: Index) -> None:
    if not np.array_equal(index.span, spans(index.size, index.info_size)):
        raise ValueError("spans do not follow from sizes")
    if bool(index.checksum[:, :-1][index.size == 0].any()):
        raise ValueError("checksums of members that are not there")
    shard_bytes = np.array([shard.bytes for shard in index.shards], np.int64)
    if int(index.offset.min()) < 0 or bool((index.offset + index.span > shard_bytes[index.shard]).any()):
        raise ValueError("a tile lies beyond the end of its shard")

"""The index of a shard folder: what is in it and where, `index.json` and `index.npz`.

The JSON is written last and holds the hash of the arrays: a folder with `index.json` is a finished set.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from mmae.data.shards.columns import UNKNOWN_BIOME, UNKNOWN_DATE, Columns, check_types, check_values, chunks
from mmae.data.shards.index_json import (
    JSON_NAME,
    NPZ_NAME,
    ArraysInfo,
    DatasetInfo,
    Head,
    Loss,
    ShardInfo,
    SourceInfo,
    parse_head,
)
from mmae.data.shards.index_labels import TileLabels, check_label
from mmae.data.shards.mapped_npz import UNREADABLE_NPZ, map_npz, save_npz
from mmae.disk.content_hash import stream_hash
from mmae.disk.files import atomic_file
from mmae.disk.regular_file import open_regular, read_regular
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "JSON_NAME",
    "UNKNOWN_BIOME",
    "UNKNOWN_DATE",
    "Columns",
    "DatasetInfo",
    "Index",
    "Loss",
    "ShardInfo",
    "SourceInfo",
    "open_index",
    "write_index",
]

_CONSTANT: Final = "constant."
_LABEL: Final = "label."


@dataclass(frozen=True, eq=False)
class Index(Columns):
    """A shard folder's index: `Columns`, and facts about the whole set.

    The arrays are read-only and mapped from the file: processes on a machine share them. A pickled index opens
    the folder again where it is loaded.

    Attributes:
        folder: where the index lies, and the shards too unless they are fetched from elsewhere.
        fingerprint: identity of this shard set: a hash of its content, whatever folder it lies in.
        datasets: name -> stored dtype and tile shape; the order is that of members in a tile.
        constants: name -> (N,) of the dataset's dtype, the value of tiles whose array is constant (else 0).
        band_stats: MMEarth's statistics file.
        shards: the tar files, in the order of `shard`.
        splits: names, in the order of `split`; a split may have no tile.
        options: what `mmae repack` was asked for.
        source: the file that was packed.
        losses: tiles of the source that could not be packed.
        labels: name -> labels of the user's own.
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
    losses: tuple[Loss, ...]
    labels: Mapping[str, TileLabels] = field(default_factory=dict)

    def of_split(self, split: str) -> NDArray[np.int64]:
        """Positions of a split's tiles in stored order, int64; none if the set has no such split, or no tile in it."""
        if split not in self.splits:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.split == self.splits.index(split)).astype(np.int64, copy=False)

    def positions(self, split: str) -> NDArray[np.int64]:
        """Positions of a split's tiles in stored order, int64, at least one.

        Raises:
            InputError: no such split, or no tile in it.
        """
        if split not in self.splits:
            raise InputError(f"{self.folder}: no split {split!r} (splits: {', '.join(self.splits)})")
        found = self.of_split(split)
        if len(found) == 0:
            remedy = {
                "train": "repack a source whose splits file puts tiles into train",
                "val": "repack with --val-fraction F to take one out of train",
            }.get(split, "choose another split")
            raise InputError(f"{self.folder}: split {split!r} has no tile: {remedy}")
        return found

    def __reduce__(self) -> tuple[Callable[[Path, str], Index], tuple[Path, str]]:
        return _reopen, (self.folder, self.fingerprint)


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
    losses: Sequence[Loss] = (),
    labels: Mapping[str, TileLabels] = MappingProxyType({}),
) -> Index:
    """Write both files, the JSON last because it commits, and open them again.

    `band_stats` and `options` must be standard JSON (no NaN). The bytes depend on the arguments only.
    """
    arrays = {field.name: getattr(columns, field.name) for field in fields(Columns)}
    arrays |= {_CONSTANT + name: constants[name] for name in datasets}
    arrays |= {_LABEL + name: label.value_N for name, label in labels.items()}
    with atomic_file(folder / NPZ_NAME) as file:
        save_npz(file, arrays)
        info = ArraysInfo(file.seek(0, 2), stream_hash(file))
    head = Head(
        info,
        datasets,
        tuple(shards),
        tuple(splits),
        dict(options),
        source,
        dict(band_stats),
        tuple(losses),
        {name: label.info for name, label in labels.items()},
    )
    with atomic_file(folder / JSON_NAME) as file:
        file.write(head.dump())
    return open_index(folder)


def open_index(folder: Path | str) -> Index:
    """The index of a shard folder, checked.

    Raises:
        InputError: no such folder, no finished set in it, one of another format, or a damaged index.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: give the folder that `mmae repack SRC OUT` wrote")
    try:
        text = read_regular(folder / JSON_NAME)
    except FileNotFoundError:
        raise InputError(f"{folder}: no {JSON_NAME}, so no finished shards: run mmae repack SRC {folder}") from None
    except OSError as error:
        raise InputError(f"{folder / JSON_NAME}: cannot be read ({error.strerror})") from None
    head = parse_head(text, folder / JSON_NAME)
    try:
        arrays, mapping = _map_arrays(folder / NPZ_NAME, head.arrays)
        content: dict[str, Any] = vars(head) | {"folder": folder, "fingerprint": xxhash.xxh3_128_hexdigest(text)}
        content |= {field.name: arrays[field.name] for field in fields(Columns)}
        content |= {"constants": {name: arrays[_CONSTANT + name] for name in head.datasets}}
        content["labels"] = {name: TileLabels(info, arrays[_LABEL + name]) for name, info in head.labels.items()}
        del content["arrays"]
        index = Index(**content)
        _check(index, mapping)
    except (*UNREADABLE_NPZ, KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{folder}: the index is damaged ({str(error) or type(error).__name__}): repack, or copy the folder again"
        ) from error
    return index


def _map_arrays(path: Path, expected: ArraysInfo) -> tuple[dict[str, NDArray[Any]], mmap.mmap]:
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise InputError(f"{path.parent}: {NPZ_NAME} is missing: repack, or copy the folder again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): repack, or copy the folder again") from None
    with file:
        # The size is checked first: access to a mapped page behind the end of the file would kill the process.
        if file.seek(0, 2) != expected.bytes or stream_hash(file) != expected.hash:
            raise InputError(
                f"{path.parent}: {NPZ_NAME} does not belong to {JSON_NAME}: repack, or copy the folder again"
            )
        return map_npz(file)


def _reopen(folder: Path, fingerprint: str) -> Index:
    index = open_index(folder)
    if index.fingerprint != fingerprint:
        raise InputError(f"{folder}: the shards were replaced while in use: start again")
    return index


def _check(index: Index, mapping: mmap.mmap) -> None:
    """Raise ValueError if the index contradicts itself: readers use offsets without further checks."""
    count = len(index)
    check_types(index, len(index.datasets))
    for name, info in index.datasets.items():
        if index.constants[name].dtype != info.dtype or index.constants[name].shape != (count,):
            raise ValueError(f"constants of {name}")
    for name, label in index.labels.items():
        check_label(name, label, count)
    known = {"split": len(index.splits), "shard": len(index.shards), "level": len(S2_LEVELS)}
    shard_bytes = np.array([shard.bytes for shard in index.shards], np.int64)
    shard_split = np.array([index.splits.index(shard.split) for shard in index.shards], np.uint8)
    for part in chunks(count):
        check_values(index, part, known, shard_bytes, shard_split)
        mapping.madvise(mmap.MADV_DONTNEED)  # Checking every tile should not keep all pages in memory.
    tiles = np.bincount(index.shard, minlength=len(index.shards))
    if tiles.tolist() != [shard.tiles for shard in index.shards]:
        raise ValueError("a shard's number of tiles is not that of the columns")

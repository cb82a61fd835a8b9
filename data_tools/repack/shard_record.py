"""The record of a packed shard: a file beside the shard, until the index contains its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.shards.index_json import Loss, ShardInfo
from mmae.data.shards.mapped_npz import UNREADABLE_NPZ
from mmae.disk.files import atomic_file
from mmae.disk.regular_file import open_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CONSTANT: Final = "constant."
_MOMENT: Final = "moment."
_LOST: Final = "lost"
_UNREADABLE: Final = (*UNREADABLE_NPZ, OSError, KeyError)


@dataclass(frozen=True, eq=False)
class ShardRecord:
    """The facts on one shard that the index needs.

    Attributes:
        info: name, split, tiles, bytes, hash.
        columns: row, offset, checksum, size, info_size as in `index.Columns`, one entry a tile.
        constants: dataset -> (tiles,) of its dtype, 0 where the array is not constant.
        moments: `Moments.arrays()` of the datasets whose statistics are gathered.
        lost: tiles that were planned for the shard and could not be packed, in the order of the plan.
    """

    info: ShardInfo
    columns: Mapping[str, NDArray[Any]]
    constants: Mapping[str, NDArray[Any]]
    moments: Mapping[str, NDArray[Any]]
    lost: tuple[Loss, ...]


def record_path(shard: Path) -> Path:
    """The path of a shard's record."""
    return shard.with_name(f".{shard.stem}.npz")


def save_record(path: Path, record: ShardRecord) -> None:
    """Write a record whole, or not at all."""
    info = record.info
    arrays = {
        **record.columns,
        **{_CONSTANT + name: values for name, values in record.constants.items()},
        **{_MOMENT + name: values for name, values in record.moments.items()},
        _LOST: np.array(
            [[str(loss.row), loss.tile_id, loss.dataset, loss.what] for loss in record.lost], np.str_
        ).reshape(-1, 4),
    }
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, info=np.array([info.split, str(info.bytes), info.hash]), **arrays)


def is_packed(shard: Path) -> bool:
    """Whether the shard exists, with its record and the recorded size. `mmae verify` checks the content."""
    try:
        size = shard.stat().st_size
        with open_regular(record_path(shard)) as file, np.load(file, allow_pickle=False) as stored:
            return bool(int(stored["info"][1]) == size)
    except _UNREADABLE:
        return False


def load_record(shard: Path) -> ShardRecord | None:
    """The record of a finished shard; None if there is no such shard, or its size is not the recorded size."""
    try:
        with open_regular(record_path(shard)) as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        split, size, digest = arrays.pop("info").tolist()
        if shard.stat().st_size != int(size):
            return None
        lost = tuple(
            Loss(int(row), tile_id, dataset, what) for row, tile_id, dataset, what in arrays.pop(_LOST).tolist()
        )
    except _UNREADABLE:
        return None
    constants, moments = _taken(arrays, _CONSTANT), _taken(arrays, _MOMENT)
    info = ShardInfo(shard.name, split, len(arrays["row"]), int(size), digest)
    return ShardRecord(info, arrays, constants, moments, lost)


def _taken(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays of this prefix, without it; they are removed from `arrays`."""
    return {name[len(prefix) :]: arrays.pop(name) for name in [name for name in arrays if name.startswith(prefix)]}

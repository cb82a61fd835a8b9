"""One source row -> the members of one tile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.source_json import standard
from mmae.data.codec import encode
from mmae.errors import InputError
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.hdf5 import Source


@dataclass(frozen=True)
class PackedTile:
    """One tile as it goes into a shard.

    Attributes:
        row: its row in the source.
        members: dataset -> encoded array, in the order in which they are stored.
        constants: dataset -> the value (0-d) of an array that is constant over the tile.
        info: the `.json` member.
    """

    row: int
    members: Mapping[str, bytes]
    constants: Mapping[str, NDArray[Any]]
    info: bytes


def pack_tile(source: Source, row: int, split: str, codec: str) -> PackedTile:
    """Read and encode one tile.

    Raises:
        InputError: the source is damaged there, or an array is too large for a tile.
    """
    members: dict[str, bytes] = {}
    constants: dict[str, NDArray[Any]] = {}
    for name in source.datasets:
        array = source.read(name, row)
        if is_constant(array):
            constants[name] = array.reshape(-1)[0:1].reshape(())
            continue
        try:
            members[name] = encode(array, codec)
        except ValueError as error:
            raise InputError(f"{source.path}: row {row} of {name}: {error}: leave the dataset out") from error
    return PackedTile(row, members, constants, _info(source, row, split, constants))


def is_constant(array: NDArray[Any]) -> bool:
    """Whether all elements have the same bits (two NaNs may differ); False without elements."""
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    return bits.size > 0 and bool((bits == bits[0]).all())


def _info(source: Source, row: int, split: str, constants: Mapping[str, NDArray[Any]]) -> bytes:
    tile_id = source.tile_ids[row]
    info = {
        "row": row,
        "tile_id": tile_id,
        "split": split,
        "s2_level": S2_LEVELS[source.level[row]],
        "tile_info": standard(source.tile_info[tile_id]),
        "constants": {name: constant_entry(source.datasets[name].shape, value) for name, value in constants.items()},
    }
    return json.dumps(info, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def constant_entry(shape: tuple[int, ...], value: NDArray[Any]) -> list[Any]:
    """A constant array in JSON: dtype, shape, and the bytes of one element in hexadecimal."""
    return [value.dtype.str, list(shape), value.tobytes().hex()]

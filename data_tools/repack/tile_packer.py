"""One source row -> the members of one tile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from data_tools.source.raw_read import RawTiles, TileArrays, UnreadableTileError
from data_tools.stats.moments import Moments
from mmae.data.shards.codec import encode
from mmae.disk.json_text import parse_json, standard_json
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index_json import DatasetInfo

_GLANCE: Final = 64
_MEMO_STORED: Final = 256
_MEMO_BYTES: Final = 1 << 24

_dumps: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


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


class LostTileError(Exception):
    """A tile cannot be packed. It names the dataset (or `tile_info`) and the fault."""

    def __init__(self, dataset: str, what: str) -> None:
        super().__init__(dataset, what)
        self.dataset = dataset
        self.what = what


class _Packed(NamedTuple):
    """One array as it is stored: a member, or a constant and how the `.json` member says so."""

    member: bytes | None
    constant: NDArray[Any] | None
    entry: str


class Memo:
    """A cache from short compressed chunks to packed arrays: constant and one-hot arrays recur in many tiles."""

    def __init__(self) -> None:
        self._packed: dict[tuple[str, int, bytes], _Packed] = {}
        self._bytes = 0

    def get(self, key: tuple[str, int, bytes]) -> _Packed | None:
        return self._packed.get(key)

    def put(self, key: tuple[str, int, bytes], packed: _Packed) -> None:
        self._bytes += 4 * _MEMO_STORED + len(packed.member or b"")
        if self._bytes > _MEMO_BYTES:
            self._packed.clear()
            self._bytes = 0
        self._packed[key] = packed


class TilePacker:
    """Packs the tiles of one shard.

    Args:
        datasets: the datasets to pack, in the order in which members are stored.
        tiles: dataset -> its arrays, by number within the shard.
        codec: one of `codec.CODECS`.
        split: the shard's split.
        memo: may outlive the packer, for the same source and codec.
        moments: takes in the datasets of `statistics`; call `finish` at the end.
    """

    def __init__(
        self,
        datasets: Mapping[str, DatasetInfo],
        tiles: Mapping[str, TileArrays],
        codec: str,
        split: str,
        memo: Memo,
        moments: Moments,
        statistics: Sequence[str] = (),
    ) -> None:
        self._datasets = datasets
        self._tiles = tiles
        self._codec = codec
        self._split = split
        self._memo = memo
        self._moments = moments
        self._statistics = frozenset(statistics)
        self._flat: Counter[tuple[str, int, bytes]] = Counter()

    def pack(self, number: int, row: int, tile_id: str, level: int, tile_info: str) -> PackedTile:
        """Read and encode one tile.

        Args:
            number: the tile's number within the shard.
            tile_info: its entry in the tile_info file, as it stands there.

        Raises:
            LostTileError: the source cannot be read there, or its entry is nested too deeply.
        """
        members: dict[str, bytes] = {}
        constants: dict[str, NDArray[Any]] = {}
        entries: list[str] = []
        counted: list[tuple[str, NDArray[Any]]] = []
        for name in self._datasets:
            try:
                packed, array = self._array(name, number)
            except UnreadableTileError as error:
                raise LostTileError(name, str(error)) from error
            if packed.member is not None:
                members[name] = packed.member
            elif packed.constant is not None:
                constants[name] = packed.constant
                entries.append(packed.entry)
            if array is not None:
                counted.append((name, array))
        try:
            info = info_member(row, tile_id, self._split, level, tile_info, entries)
        except ValueError as error:
            raise LostTileError("tile_info", f"cannot be read ({error})") from error
        self._count(level, counted, constants)
        return PackedTile(row, members, constants, info)

    def _count(self, level: int, arrays: list[tuple[str, NDArray[Any]]], constants: Mapping[str, NDArray[Any]]) -> None:
        """Count a tile that was packed completely: lost tiles are in no statistics."""
        for name, array in arrays:
            self._moments.update(name, array, level)
        for name in self._statistics & constants.keys():
            self._flat[name, level, constants[name].tobytes()] += 1

    def finish(self) -> None:
        """Add the constant arrays to the moments. They recur, mostly as no-data, and were only counted so far."""
        for (name, level, value), times in sorted(self._flat.items()):
            info = self._datasets[name]
            one = Moments()
            one.update(name, np.full(info.shape, np.frombuffer(value, info.dtype)[0]), level)
            for _ in range(times if any(map(any, one.counts().values())) else 1):
                self._moments.merge(one)
        self._flat.clear()

    def _array(self, name: str, number: int) -> tuple[_Packed, NDArray[Any] | None]:
        """A packed array; and the array itself if its values must still be counted."""
        tiles, wanted, key = self._tiles[name], name in self._statistics, None
        if isinstance(tiles, RawTiles):
            stored = tiles.stored(number)
            if 0 < len(stored) <= _MEMO_STORED:
                key = (name, tiles.chunks.skipped.item(number), stored)
                known = self._memo.get(key)
                if known is not None and not (wanted and known.constant is None):
                    return known, None
            array = tiles.decode(number, stored)
        else:
            array = tiles.array(number)
        packed = self._encode(name, array)
        if key is not None:
            self._memo.put(key, packed)
        return packed, array if wanted and packed.constant is None else None

    def _encode(self, name: str, array: NDArray[Any]) -> _Packed:
        if is_constant(array):
            value = array.reshape(-1)[0:1].reshape(()).astype(self._datasets[name].dtype)
            entry = json.dumps(constant_entry(array.shape, value), separators=(",", ":"))
            return _Packed(None, value, f'"{name}":{entry}')
        return _Packed(encode(array, self._codec), None, "")


def is_constant(array: NDArray[Any]) -> bool:
    """Whether all elements have the same bits (two NaNs may differ); False without elements."""
    flat = array.reshape(-1)
    # The first bytes decide most cases: few arrays are constant.
    head, itemsize = flat[:_GLANCE].tobytes(), array.dtype.itemsize
    if head != head[:itemsize] * (len(head) // itemsize) or not head:
        return False
    bits = np.ascontiguousarray(flat).view(f"u{itemsize}")
    return bool((bits == bits[0]).all())


def constant_entry(shape: tuple[int, ...], value: NDArray[Any]) -> list[Any]:
    """A constant array in JSON: dtype, shape, and the bytes of one element in hexadecimal."""
    return [value.dtype.str, list(shape), value.tobytes().hex()]


def info_member(row: int, tile_id: str, split: str, level: int, tile_info: str, constants: Sequence[str]) -> bytes:
    """The `.json` member: standard JSON, keys sorted, no spaces.

    Args:
        tile_info: JSON text, in which NaN and infinities may occur.
        constants: `"<dataset>":<constant_entry>` of each constant array.

    Raises:
        ValueError: `tile_info` is not JSON, or is nested deeper than this process can follow.
    """
    entry = parse_json(tile_info)
    try:
        listed = _dumps(entry)
    except (ValueError, RecursionError):
        listed = _dumps(standard_json(entry))
    # Datasets and splits are plain words; tile ids may hold anything.
    return (
        f'{{"constants":{{{",".join(sorted(constants))}}},"row":{row},"s2_level":"{S2_LEVELS[level]}",'
        f'"split":"{split}","tile_id":{json.dumps(tile_id)},"tile_info":{listed}}}'
    ).encode()

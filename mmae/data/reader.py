"""Tiles by position, straight from the mapped shards into the arrays that want them."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xxhash

from mmae.data.codec import CodecError, decode_into
from mmae.data.layout import BLOCK, member_bytes
from mmae.errors import InputError, did_you_mean
from mmae.types import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.index import Index

# A mapping keeps a file descriptor, and 1024 of those is a common limit.
MAX_OPEN_SHARDS: Final = 512


class DamagedTile(InputError):  # noqa: N818  (it names what was found, not that it was raised)
    """The bytes of one tile are not those that were packed."""

    def __init__(self, shard: Path, row: int, offset: int, what: str) -> None:
        super().__init__(shard, row, offset, what)
        self.shard = shard
        self.row = row
        self.offset = offset
        self.what = what

    def __str__(self) -> str:
        return (
            f"{self.shard}: the tile of row {self.row} at byte {self.offset} is damaged ({self.what}): "
            f"run mmae verify {self.shard.parent}, and copy or repack the shards again"
        )


class ShardReader:
    """Random access to the tiles of an index.

    Shards are mapped when first read, in the process that reads: a reader may be pickled, and be used after a fork.

    Args:
        index: of the shard folder.
        datasets: names of the datasets to read.
        check: compare each tile's bytes with its checksum before anything is decoded.

    Raises:
        InputError: the shards lack a dataset.
    """

    def __init__(self, index: Index, datasets: Sequence[str], check: bool = True) -> None:
        for name in datasets:
            if name not in index.datasets:
                raise InputError(
                    f"{index.folder}: the shards hold no dataset {name!r}{did_you_mean(name, index.datasets)}; "
                    f"repack with it"
                )
        self._index = index
        self._names = tuple(datasets)
        self._check = check
        self._wanted = tuple(name if name in datasets else None for name in index.datasets)
        self._maps: dict[int, memoryview] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def read(self, position: int) -> Tile:
        """The tile at a position of the index, freshly allocated.

        Raises:
            DamagedTile: its bytes are not those that were packed.
            InputError: its shard is missing.
        """
        infos = self._index.datasets
        arrays = {name: np.empty((1, *infos[name].shape), infos[name].dtype) for name in self._names}
        self.read_into(position, arrays, 0)
        return Tile(
            row=int(self._index.row[position]),
            level=int(self._index.level[position]),
            arrays={name: array[0, ...] for name, array in arrays.items()},
        )

    def read_into(self, position: int, out: Mapping[str, NDArray[Any]], slot: int) -> None:
        """Decode the tile at a position of the index into `out[dataset][slot]`.

        Args:
            out: dataset -> (slots, *tile shape), C-contiguous, of the stored dtype; one for each of the
                reader's datasets.

        Raises:
            DamagedTile: its bytes are not those that were packed. The slot then holds anything.
            InputError: its shard is missing.
        """
        span = self._span(position)
        start = 0
        for name, size in zip(self._wanted, self._index.size[position].tolist(), strict=True):
            if size == 0:
                if name is not None:
                    out[name][slot, ...] = self._index.constants[name][position]
                continue
            if name is not None:
                payload = span[start + BLOCK : start + BLOCK + size]
                try:
                    decode_into(payload, out[name][slot, ...])
                except CodecError as error:
                    raise self._damaged(position, f"{name}: {error}") from error
            start += member_bytes(size)

    def _span(self, position: int) -> memoryview:
        """The tile's bytes in its shard, checked."""
        index = self._index
        offset = int(index.offset[position])
        length = int(index.span[position])
        span = self._mapped(int(index.shard[position]))[offset : offset + length]
        if len(span) != length:
            raise self._damaged(position, "the shard ends before it")
        if self._check and xxhash.xxh3_64_intdigest(span) != int(index.checksum[position]):
            raise self._damaged(position, "its checksum differs")
        return span

    def _mapped(self, shard: int) -> memoryview:
        mapped = self._maps.get(shard)
        if mapped is None:
            if len(self._maps) >= MAX_OPEN_SHARDS:
                del self._maps[next(iter(self._maps))]
            mapped = self._maps[shard] = _map(self._index.folder / self._index.shards[shard].name)
        return mapped

    def _damaged(self, position: int, what: str) -> DamagedTile:
        index = self._index
        shard = index.folder / index.shards[int(index.shard[position])].name
        return DamagedTile(shard, int(index.row[position]), int(index.offset[position]), what)


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:  # an empty file cannot be mapped
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): copy or repack the shards again") from None

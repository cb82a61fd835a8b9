"""Tiles by position, straight from the mapped shards into the arrays that want them."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.data.codec import CodecError, decode_into
from mmae.data.layout import BLOCK, member_bytes, member_checksum
from mmae.errors import InputError, did_you_mean
from mmae.types import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.index import Index

# A mapping keeps a file descriptor, and 1024 of those is a common limit.
MAX_OPEN_SHARDS: Final = 512


class DamagedTile(InputError):  # noqa: N818  (it names what was found, not that it was raised)
    """The bytes of one member of a tile, from `offset` of its shard on, are not those that were packed."""

    def __init__(self, shard: Path, row: int, dataset: str, offset: int, what: str) -> None:
        super().__init__(shard, row, dataset, offset, what)
        self.shard = shard
        self.row = row
        self.dataset = dataset
        self.offset = offset
        self.what = what

    def __str__(self) -> str:
        return (
            f"{self.shard}: {self.dataset} of row {self.row} at byte {self.offset} is damaged ({self.what}): "
            f"run mmae verify {self.shard.parent}, and copy or repack the shards again"
        )


class ShardReader:
    """Random access to the tiles of an index.

    Shards are mapped when first read, in the process that reads: a reader may be pickled, and be used after a fork.

    Args:
        index: of the shard folder.
        datasets: names of the datasets to read.
        check: compare the bytes of each member that is read with its checksum before it is decoded. Members of
            other datasets are not looked at: damage there does not disturb, `mmae verify` finds it.

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
        last = max((number for number, name in enumerate(index.datasets) if name in datasets), default=-1)
        self._wanted = tuple(name if name in datasets else None for name in list(index.datasets)[: last + 1])
        self._maps: dict[int, memoryview] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def read(self, position: int) -> Tile:
        """The tile at a position of the index, freshly allocated.

        Raises:
            DamagedTile: the bytes of a member are not those that were packed.
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
            DamagedTile: the bytes of a member are not those that were packed. The slot then holds anything.
            InputError: its shard is missing.
        """
        index = self._index
        shard = self._mapped(index.shard.item(position))
        start = index.offset.item(position)
        # Rows as lists, once a tile: an operation on a numpy scalar costs several on an int. They are longer than
        # `_wanted` where nothing more is wanted.
        sizes, checksums = index.size[position].tolist(), index.checksum[position].tolist()
        for name, size, checksum in zip(self._wanted, sizes, checksums, strict=False):
            if size == 0:
                if name is not None:
                    out[name][slot, ...] = index.constants[name][position]
                continue
            end = start + member_bytes(size)
            if name is not None:
                try:
                    extent = self._checked(shard[start:end], end - start, checksum)
                    decode_into(extent[BLOCK : BLOCK + size], out[name][slot, ...])
                except CodecError as error:
                    raise self._damaged(position, name, start, str(error)) from error
            start = end

    def _checked(self, extent: memoryview, length: int, checksum: int) -> memoryview:
        if len(extent) != length:
            raise CodecError("the shard ends before it does")
        if self._check and member_checksum(extent) != checksum:
            raise CodecError("its checksum differs")
        return extent

    def _mapped(self, shard: int) -> memoryview:
        mapped = self._maps.get(shard)
        if mapped is None:
            if len(self._maps) >= MAX_OPEN_SHARDS:
                del self._maps[next(iter(self._maps))]
            mapped = self._maps[shard] = _map(self._index.folder / self._index.shards[shard].name)
        return mapped

    def _damaged(self, position: int, dataset: str, offset: int, what: str) -> DamagedTile:
        index = self._index
        shard = index.folder / index.shards[int(index.shard[position])].name
        return DamagedTile(shard, int(index.row[position]), dataset, offset, what)


def _map(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:  # an empty file cannot be mapped
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): copy or repack the shards again") from None

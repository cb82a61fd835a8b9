"""Tiles by position, decoded from the shards' files directly into batch arrays.

Files are read, not mapped. So a truncated file or a failing disk is an error of one tile and does not kill the process,
and the memory of a process does not grow with the number of tiles that it has read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from mmae.data.shards.codec import CodecError
from mmae.data.shards.open_files import OpenShards
from mmae.data.shards.slot_decoder import SlotDecoder, Window
from mmae.data.shards.tar_layout import BLOCK, member_bytes, member_checksum, members_bytes
from mmae.errors import InputError, did_you_mean
from mmae.terminal.printable import printable
from mmae.types import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Index

    _Member = tuple[str, SlotDecoder, int, int, int, int]
    # Dataset, its decoder, first byte of its extent in the shard and the one after it, payload bytes, checksum.

__all__ = ["DamagedTile", "ShardReader", "ShardStore", "TileReader"]

# If fewer bytes lie between two wanted members, one longer read is cheaper than two.
_WORTH_A_READ: Final = 1 << 14


class ShardStore(Protocol):
    """Finds the local files of shards."""

    def path(self, shard: int) -> Path:
        """The whole file of a shard, fetched first if need be.

        Raises:
            InputError: the shard cannot be fetched.
        """


class TileReader(Protocol):
    """Random access to the tiles of a set, wherever they lie; `ShardReader` says what each method does."""

    def read(self, position: int) -> Tile: ...

    def read_into(self, position: int, out: Mapping[str, NDArray[Any]], slot: int) -> None: ...

    def will_need(self, positions: NDArray[np.int64]) -> None: ...

    def close(self) -> None: ...


class ShardReader:
    """Random access to the tiles of an index, for one thread of one process at a time.

    Shards are opened when first read, in the process that reads: a reader may be pickled, and be used after a fork.

    Args:
        index: the shard folder's index.
        datasets: names of the datasets to read.
        check: compare the bytes of each member that is read with its checksum before it is decoded. Members of
            other datasets are not looked at: damage there does not disturb, `mmae verify` finds it.
        store: where the shards are; None: in the index's folder.

    Raises:
        InputError: the shards lack a dataset.
    """

    def __init__(
        self, index: Index, datasets: Sequence[str], check: bool = True, store: ShardStore | None = None
    ) -> None:
        for name in datasets:
            if name not in index.datasets:
                raise InputError(
                    f"{index.folder}: the shards hold no dataset {name!r}{did_you_mean(name, index.datasets)}; "
                    f"repack with it"
                )
        self._index = index
        self._names = tuple(datasets)
        self._check = check
        self._store = store
        self._prepare()

    def _prepare(self) -> None:
        index = self._index
        last = max((column for column, name in enumerate(index.datasets) if name in self._names), default=-1)
        infos = list(index.datasets.items())[: last + 1]
        # One entry for each column up to the last wanted one; None for a column that is not wanted.
        self._columns = tuple(
            (name, SlotDecoder(info.dtype, info.shape)) if name in self._names else None for name, info in infos
        )
        self._shards = OpenShards(self._path)
        self._window = Window(0)

    def __getstate__(self) -> dict[str, Any]:
        return {"_index": self._index, "_names": self._names, "_check": self._check, "_store": self._store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._prepare()

    def close(self) -> None:
        """Close the shards; they are opened again when read."""
        self._shards.close()

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
            DamagedTile: the bytes of a member are not those that were packed, or cannot be read. The slot then
                holds anything.
            InputError: its shard is missing.
        """
        index = self._index
        start = end = index.offset.item(position)
        run: list[_Member] = []
        # Rows as lists, once a tile: an operation on a numpy scalar costs several on an int. They are longer than
        # `_columns` where nothing more is wanted.
        sizes, checksums = index.size[position].tolist(), index.checksum[position].tolist()
        for column, size, checksum in zip(self._columns, sizes, checksums, strict=False):
            if size == 0:
                if column is not None:
                    out[column[0]][slot, ...] = index.constants[column[0]][position]
                continue
            after = start + member_bytes(size)
            if column is not None:
                if run and start - end > _WORTH_A_READ:
                    self._read_run(position, run, out, slot)
                    run = []
                run.append((*column, start, after, size, checksum))
                end = after
            start = after
        if run:
            self._read_run(position, run, out, slot)

    def will_need(self, positions: NDArray[np.int64]) -> None:
        """Have the system read the tiles at `positions` (N,) in advance. Returns at once, and ignores failures.

        Shards of a store are advised only where they are open already: fetching takes long.
        """
        index = self._index
        length = members_bytes(index.size[positions, : len(self._columns)])
        places = (index.shard[positions], index.offset[positions], length)
        spans = list(zip(*(column.tolist() for column in places), strict=True))
        with suppress(InputError, OSError):
            self._shards.will_need(spans, opening=self._store is None)

    def _read_run(self, position: int, run: list[_Member], out: Mapping[str, NDArray[Any]], slot: int) -> None:
        """Read members that lie together at once, and decode each."""
        begin = run[0][2]
        length = run[-1][3] - begin
        if length > self._window.size:
            self._grow(position, run, length)
        window = self._window
        try:
            done = self._shards.read(self._index.shard.item(position), begin, length, window)
        except OSError as error:
            raise self._damaged(position, run[0][0], begin, error.strerror or str(error)) from error
        view, check = window.view, self._check
        for name, decoder, start, after, size, checksum in run:
            here, end = start - begin, after - begin
            if end > done:
                raise self._damaged(position, name, start, "the shard ends before it does")
            if check and member_checksum(view[here:end]) != checksum:
                raise self._damaged(position, name, start, "its checksum differs")
            try:
                decoder.decode(window, here + BLOCK, size, out[name], slot)
            except CodecError as error:
                raise self._damaged(position, name, start, str(error)) from error

    def _grow(self, position: int, run: list[_Member], length: int) -> None:
        # A member that is larger than its raw array is damaged; no memory is taken for it.
        for name, decoder, start, _, size, _ in run:
            if size > decoder.max_bytes:
                raise self._damaged(position, name, start, f"{size} bytes, {decoder.max_bytes} at most are expected")
        self._window = Window(length)

    def _path(self, shard: int) -> Path:
        return self._index.folder / self._index.shards[shard].name if self._store is None else self._store.path(shard)

    def _damaged(self, position: int, dataset: str, offset: int, what: str) -> DamagedTile:
        index = self._index
        shard = index.folder / index.shards[int(index.shard[position])].name
        return DamagedTile(shard, int(index.row[position]), dataset, offset, what)


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
        return printable(
            f"{self.shard}: {self.dataset} of row {self.row} at byte {self.offset} is damaged ({self.what}): "
            f"run mmae verify {self.shard.parent}, and copy or repack the shards again"
        )

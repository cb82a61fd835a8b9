"""Tiles by position, decoded from the shards' files directly into batch arrays.

Files are read, not mapped. So a truncated file or a failing disk is an error of one tile and does not kill the process,
and the memory of a process does not grow with the number of tiles that it has read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mmae.data.shards.codec import CodecError
from mmae.data.shards.open_files import OpenShards
from mmae.data.shards.read_plan import ReadPlan, plan_reads
from mmae.data.shards.slot_decoder import SlotDecoder, Window
from mmae.data.shards.tar_layout import BLOCK, member_checksum, members_bytes
from mmae.errors import InputError, did_you_mean
from mmae.terminal.printable import printable
from mmae.types import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Index

    OnDamage = Callable[[int, "DamagedTile"], None]

__all__ = ["DamagedTile", "ShardReader", "ShardStore", "TileReader", "read_alone"]


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

    def read_into(
        self,
        positions: NDArray[np.int64],
        out: Mapping[str, NDArray[Any]],
        slots: Sequence[int],
        on_damage: OnDamage | None = None,
    ) -> None: ...

    def will_need(self, positions: NDArray[np.int64]) -> None: ...

    def close(self) -> None: ...


def read_alone(reader: TileReader, index: Index, datasets: Sequence[str], position: int) -> Tile:
    """One tile by a reader's `read_into`, freshly allocated.

    Args:
        index: of the reader's set.
        datasets: those that the reader reads.
    """
    infos = index.datasets
    arrays = {name: np.empty((1, *infos[name].shape), infos[name].dtype) for name in datasets}
    reader.read_into(np.array([position]), arrays, [0])
    return Tile(
        row=int(index.row[position]),
        level=int(index.level[position]),
        arrays={name: array[0, ...] for name, array in arrays.items()},
    )


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
        self._datasets = tuple(datasets)
        self._check = check
        self._store = store
        self._prepare()

    def _prepare(self) -> None:
        infos = self._index.datasets
        # By column of the index, in stored order.
        self._names = {column: name for column, name in enumerate(infos) if name in self._datasets}
        self._decoders = {
            column: SlotDecoder(infos[name].dtype, infos[name].shape) for column, name in self._names.items()
        }
        self._shards = OpenShards(self._path)
        self._window = Window(0)

    def __getstate__(self) -> dict[str, Any]:
        return {"_index": self._index, "_datasets": self._datasets, "_check": self._check, "_store": self._store}

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
        return read_alone(self, self._index, self._datasets, position)

    def read_into(
        self,
        positions: NDArray[np.int64],
        out: Mapping[str, NDArray[Any]],
        slots: Sequence[int],
        on_damage: OnDamage | None = None,
    ) -> None:
        """Decode the tile at each of some positions of the index into `out[dataset][slot]`.

        Args:
            out: dataset -> (slots, *tile shape), C-contiguous, of the stored dtype; one for each of the
                reader's datasets.
            slots: of each tile.
            on_damage: is given the slot of a damaged tile, which then holds anything, and the damage; None: raise it.

        Raises:
            DamagedTile: the bytes of a member are not those that were packed, or cannot be read.
            InputError: a tile's shard is missing.
        """
        index = self._index
        most = [decoder.max_bytes for decoder in self._decoders.values()]
        plan = plan_reads(index, positions, list(self._decoders), most)
        if plan.window > self._window.size:
            self._window = Window(plan.window)
        decode = {
            column: decoder.into(self._window, out[self._names[column]]) for column, decoder in self._decoders.items()
        }
        for column, tiles in plan.constant.items():
            name = self._names[column]
            _fill(out[name], [slots[tile] for tile in tiles.tolist()], index.constants[name][positions[tiles]])
        told = _Told(index, positions, slots, on_damage)
        for tile, column, offset in plan.oversized:
            size, expected = index.size[positions[tile], column], self._decoders[column].max_bytes
            told.damage(tile, column, offset, f"{size} bytes, {expected} at most are expected")
        self._decode(plan, decode, slots, told)

    def _decode(
        self, plan: ReadPlan, decode: Mapping[int, Callable[[int, int, int], None]], slots: Sequence[int], told: _Told
    ) -> None:
        """Follow a plan: read what lies together at once, and decode each member."""
        window, read, check, reads = self._window, self._shards.read, self._check, iter(plan.reads)
        view, lost, begin, done = window.view, -1, 0, 0
        for tile, column, opens, start, end, size, checksum in plan.members():
            if opens:
                shard, begin, length = next(reads)
            if tile == lost:
                continue
            try:
                if opens:
                    done = read(shard, begin, length, window)
                if end > done:
                    raise CodecError("the shard ends before it does")
                if check and member_checksum(view[start:end]) != checksum:
                    raise CodecError("its checksum differs")
                decode[column](start + BLOCK, size, slots[tile])
            except (CodecError, OSError) as error:
                lost = tile
                what = (isinstance(error, OSError) and error.strerror) or str(error)
                told.damage(tile, column, begin + start, what, error)

    def will_need(self, positions: NDArray[np.int64]) -> None:
        """Have the system read the tiles at `positions` (N,) in advance. Returns at once, and ignores failures.

        Shards of a store are advised only where they are open already: fetching takes long.
        """
        index = self._index
        length = members_bytes(index.size[positions, : max(self._decoders, default=-1) + 1])
        places = (index.shard[positions], index.offset[positions], length)
        spans = list(zip(*(column.tolist() for column in places), strict=True))
        with suppress(InputError, OSError):
            self._shards.will_need(spans, opening=self._store is None)

    def _path(self, shard: int) -> Path:
        return self._index.folder / self._index.shards[shard].name if self._store is None else self._store.path(shard)


@dataclass(frozen=True, eq=False)
class _Told:
    """Tells the caller of `read_into` of damage; the attributes are its arguments."""

    index: Index
    positions: NDArray[np.int64]
    slots: Sequence[int]
    on_damage: OnDamage | None

    def damage(self, tile: int, column: int, offset: int, what: str, cause: Exception | None = None) -> None:
        index, position = self.index, int(self.positions[tile])
        shard = index.folder / index.shards[int(index.shard[position])].name
        found = DamagedTile(shard, int(index.row[position]), tuple(index.datasets)[column], offset, what)
        if self.on_damage is None:
            raise found from cause
        self.on_damage(self.slots[tile], found)


def _fill(out: NDArray[Any], slots: Sequence[int], values: NDArray[Any]) -> None:
    if slots:
        out[slots] = values.reshape(-1, *(1,) * (out.ndim - 1))


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

"""Shards against the HDF5 file they were packed from, by plain h5py reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.places import tile_facts
from data_tools.source_json import TRAIN, VAL, standard
from data_tools.verify import Difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.hdf5 import Source
    from mmae.data.index import Index


class Reference:
    """What the source says about each tile of an index."""

    def __init__(self, index: Index, source: Source) -> None:
        self._index = index
        self._source = source

    def compare(self, position: int, dataset: str, array: NDArray[Any]) -> list[str]:
        """How a decoded array (or a constant one, filled in) differs from the source, bit by bit."""
        row = int(self._index.row[position])
        if row >= self._source.info.rows:
            return ["the source has no such row"]
        original = self._source.read(dataset, row)
        if original.dtype != array.dtype or original.shape != array.shape:
            return [f"{array.dtype} {array.shape}, the source has {original.dtype} {original.shape}"]
        differing = np.count_nonzero(_bits(original) != _bits(array))
        return [f"{differing} of {array.size} values differ from the source"] if differing else []

    def compare_info(self, position: int, tile_info: object) -> list[str]:
        """How the `.json` member's tile_info differs from the source's."""
        row = int(self._index.row[position])
        if row >= self._source.info.rows:
            return []
        original = standard(self._source.tile_info[self._source.tile_ids[row]])
        return [] if tile_info == original else ["tile_info differs from the source"]


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    # As integers: NaN is not equal to itself, and -0.0 is equal to 0.0.
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def compare_sets(index: Index, source: Source) -> list[Difference]:
    """Differences of the whole set: statistics, splits, and what the index says about each tile."""
    found = [] if dict(index.band_stats) == source.band_stats else [Difference("", None, None, "band_stats differ")]
    if bool((index.row >= source.info.rows).any()):
        return [*found, Difference("", None, None, f"rows beyond the source's {source.info.rows}")]
    return [*found, *_compare_splits(index, source), *_compare_columns(index, source)]


def _compare_splits(index: Index, source: Source) -> Iterator[Difference]:
    packed = {name: index.row[index.split == number] for number, name in enumerate(index.splits)}
    expected = dict(source.splits)
    if index.options.get("val_fraction"):
        # val was taken out of train: only together are they the source's train.
        packed[TRAIN] = np.concatenate([packed[TRAIN], packed.pop(VAL)])
        expected.pop(VAL, None)
    for name in sorted({*packed, *expected}):
        have, want = (
            np.sort(packed.get(name, np.empty(0, np.int64))),
            np.sort(expected.get(name, np.empty(0, np.int64))),
        )
        if not np.array_equal(have, want):
            yield Difference("", None, None, f"split {name!r}: {len(have)} tiles, not the source's {len(want)}")


def _compare_columns(index: Index, source: Source) -> Iterator[Difference]:
    facts = tile_facts(source)
    expected = {name: values[index.row] for name, values in facts._asdict().items()}
    expected["level"] = source.level[index.row]
    for name, values in expected.items():
        stored = getattr(index, name)
        same = stored == values
        if stored.dtype.kind == "f":
            same |= np.isnan(stored) & np.isnan(values)
        for position in np.flatnonzero(~same).tolist():
            yield _column_difference(
                index, position, f"{name} is {stored[position]}, the source has {values[position]}"
            )
    for position, row in enumerate(index.row.tolist()):
        if index.tile_id[position] != source.tile_ids[row].encode():
            yield _column_difference(index, position, f"tile id, the source has {source.tile_ids[row]!r}")


def _column_difference(index: Index, position: int, what: str) -> Difference:
    return Difference(index.shards[int(index.shard[position])].name, int(index.row[position]), None, what)

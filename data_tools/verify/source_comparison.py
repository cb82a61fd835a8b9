"""The comparison of shards with their HDF5 file. It reads by plain h5py, without the code that packed the shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_tools.source.json_files import TRAIN, VAL
from data_tools.source.tile_facts import tile_facts
from data_tools.verify.differences import Difference
from mmae.errors import InputError
from mmae.terminal.error_line import first_line
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data_tools.source.dataset import Source
    from mmae.data.shards.index import Index


class Reference:
    """The pixels of the source. Each process opens the file at its first use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._datasets: dict[str, Any] = {}

    def __reduce__(self) -> tuple[type[Reference], tuple[Path]]:
        return Reference, (self._path,)

    def compare(self, row: int, dataset: str, array: NDArray[Any]) -> list[str]:
        """The difference between a decoded (or constant) array and the source, bit by bit."""
        try:
            data = self._dataset(dataset)
            if row >= len(data):
                return ["the source has no such row"]
            original = np.asarray(data[row])
        except (OSError, RuntimeError, KeyError) as error:
            return [f"the source cannot be read there ({first_line(error)})"]
        original = original.astype(original.dtype.newbyteorder("<"), copy=False)
        if original.dtype != array.dtype or original.shape != array.shape:
            return [f"{array.dtype} {array.shape}, the source has {original.dtype} {original.shape}"]
        differing = np.count_nonzero(_bits(original) != _bits(array))
        return [f"{differing} of {counted(array.size, 'value')} differ from the source"] if differing else []

    def _dataset(self, name: str) -> Any:
        if self._file is None:
            import h5py

            self._file = h5py.File(self._path, "r")
        if name not in self._datasets:
            self._datasets[name] = self._file[name]
        return self._datasets[name]

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *_: object) -> None:
        self._datasets.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    # They are compared as integers, because NaN is not equal to itself, and -0.0 is equal to 0.0.
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def is_other_source(index: Index, source: Source) -> bool:
    """Whether a source is not the file that was packed, or has other JSON files; its tiles may be the same.

    Raises:
        InputError: it is another data set altogether.
    """
    if source.info.fingerprint == index.source.fingerprint:
        return False
    if why := _another_set(index, source):
        raise InputError(
            f"{source.path}: is another data set than {index.folder} was packed from ({why}): "
            f"give --against the {index.source.name} that was packed"
        )
    return True


def _another_set(index: Index, source: Source) -> str | None:
    """Why a source cannot be the one that was packed, be it changed or written anew."""
    for name, packed in index.datasets.items():
        if name not in source.datasets:
            return f"it has no dataset {name!r} of numbers"
        if (has := source.datasets[name]) != packed:
            return f"its {name} is {has.dtype} {has.shape} a tile, the shards hold {packed.dtype} {packed.shape}"
    pairs = zip(index.row.tolist(), index.tile_id.tolist(), strict=True)
    same = [source.tile_ids[row].encode() == name for row, name in pairs if row < source.info.rows]
    return None if sum(same) * 2 > len(same) else f"{sum(same)} of {len(same)} tile ids are the same"


def not_packed(index: Index, source: Source) -> dict[str, str]:
    """Name -> reason, for everything in a source that the shards do not hold."""
    could = dict.fromkeys(source.datasets, "left out by --datasets, or by an older mmae")
    return {name: why for name, why in {**source.left_out, **could}.items() if name not in index.datasets}


def compare_sets(index: Index, source: Source) -> Iterator[Difference]:
    """Differences of the whole set: in statistics, splits, and the index's facts on each tile."""
    computed = set(index.options.get("computed_stats", ()))
    for entry in sorted({*index.band_stats, *source.band_stats} - computed):
        if index.band_stats.get(entry) != source.band_stats.get(entry):
            yield Difference("", None, None, f"band_stats of {entry} differ from the source's")
    if bool((index.row >= source.info.rows).any()):
        yield Difference("", None, None, f"rows beyond the source's {source.info.rows}")
        return
    yield from _compare_losses(index, source)
    yield from _compare_splits(index, source)
    yield from _compare_columns(index, source)


def _compare_losses(index: Index, source: Source) -> Iterator[Difference]:
    packed = set(index.row.tolist()) if index.losses else set()
    for loss in index.losses:
        if loss.row in packed:
            yield Difference("", loss.row, loss.dataset, "is in the list of losses, yet packed")
        elif not 0 <= loss.row < source.info.rows or source.tile_ids[loss.row] != loss.tile_id:
            yield Difference("", loss.row, loss.dataset, f"lost tile {loss.tile_id!r} is not the source's")


def _compare_splits(index: Index, source: Source) -> Iterator[Difference]:
    packed = {name: index.row[index.split == number] for number, name in enumerate(index.splits)}
    expected = dict(source.splits)
    if index.options.get("val_fraction"):
        # val was taken out of train, so only both together are the source's train.
        packed[TRAIN] = np.concatenate([packed[TRAIN], packed.pop(VAL)])
        expected.pop(VAL, None)
    lost = np.array([loss.row for loss in index.losses], np.int64)
    for name in sorted({*packed, *expected}):
        have, want = packed.get(name, np.empty(0, np.int64)), expected.get(name, np.empty(0, np.int64))
        want = want[~np.isin(want, lost)]
        if not np.array_equal(np.sort(have), np.sort(want)):
            yield Difference(
                "", None, None, f"split {name!r}: {counted(len(have), 'tile')}, not the source's {len(want)}"
            )


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
    for position, (tile_id, row) in enumerate(zip(index.tile_id.tolist(), index.row.tolist(), strict=True)):
        if tile_id != source.tile_ids[row].encode():
            yield _column_difference(index, position, f"tile id, the source has {source.tile_ids[row]!r}")


def _column_difference(index: Index, position: int, what: str) -> Difference:
    return Difference(index.shards[int(index.shard[position])].name, int(index.row[position]), None, what)

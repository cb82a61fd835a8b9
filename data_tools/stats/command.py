"""`mmae stats SHARDS`: band statistics over the valid pixels of a split, in the layout of MMEarth's `band_stats`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmae.errors import InputError
from mmae.modalities import MODALITIES
from mmae.terminal.table import Column, Table, Value, check_json_path, write_json

if TYPE_CHECKING:
    from data_tools.stats.moments import Moments
    from data_tools.workers.worker import Tally
    from mmae.data.shards.index import Index

_OUT: Final = "--out"
_AT_ONCE: Final = 32
"""Tiles that are read at a time."""
_MEASURES: Final = ("mean", "std", "min", "max")
COLUMNS: Final = (
    Column("dataset", "dataset"),
    Column("band", "band"),
    Column("pixels", "valid pixels"),
    *(Column(key, key, "{:.6g}") for key in _MEASURES),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shards",
        metavar="SHARDS",
        type=Path,
        nargs="+",
        help="folder that `mmae repack` wrote; several are measured as one",
    )
    parser.add_argument("--split", metavar="A,B", default="train", help="splits to measure (default: train)")
    parser.add_argument("--workers", metavar="N", type=int, help="processes (default: one a core)")
    parser.add_argument(
        _OUT, metavar="FILE", type=Path, help="write the statistics as JSON too; the file must not be there yet"
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 0. Bad input is an InputError."""
    from data_tools.workers.pool import processes

    check_json_path(args.out, _OUT)
    moments = _measure_all(args.shards, args.split, processes(args.workers))
    print(table_of(moments, args.split).text())
    if args.out is not None:
        write_json(args.out, json.dumps(moments.band_stats(), indent=1, allow_nan=False) + "\n", _OUT)
        print(f"{args.out}: written")
    return 0


def _measure_all(folders: Sequence[Path], splits: str, workers: int) -> Moments:
    from data_tools.stats.moments import Moments

    moments = Moments()
    for folder in folders:
        for split in dict.fromkeys(name.strip() for name in splits.split(",")):
            try:
                moments.merge(measure(folder, split, workers))
            except ValueError as error:
                raise InputError(f"{folder}: does not fit {folders[0]} ({error}): measure them one by one") from None
    return moments


def measure(shards: Path | str, split: str = "train", workers: int | None = None, shown: bool = True) -> Moments:
    """Moments of all continuous datasets that the shards hold.

    Args:
        shards: folder that `mmae repack` wrote.
        workers: number of processes; None for one a core. Each takes one shard at a time. The number changes no digit.
        shown: show the progress on standard error.

    Raises:
        InputError: there is no finished set, no such split or no continuous dataset, or a tile is damaged.
    """
    from data_tools.stats.moments import CONTINUOUS, Moments
    from data_tools.workers.pool import available_cores, in_processes
    from data_tools.workers.progress import progress
    from mmae.data.shards.index import open_index

    index = open_index(shards)
    positions = index.positions(split)
    names = tuple(name for name in index.datasets if name in CONTINUOUS)
    if not names:
        raise InputError(f"{shards}: none of {', '.join(CONTINUOUS)} is in the shards: repack with one of them")
    numbers = [number for number, shard in enumerate(index.shards) if shard.split == split]
    with progress(len(positions), "stats", shown) as bar:
        found = dict(in_processes(_Measure(index, names), numbers, workers or available_cores(), bar))
    moments = Moments()
    for number in numbers:
        moments.merge(Moments.from_arrays(found[number]))
    return moments


class _Measure:
    """Moments of one shard, as arrays."""

    def __init__(self, index: Index, names: tuple[str, ...]) -> None:
        self._index = index
        self._names = names

    def __call__(self, number: int, tally: Tally) -> Mapping[str, Any]:
        import numpy as np

        from data_tools.stats.moments import Moments
        from mmae.data.shards.reader import ShardReader

        index = self._index
        reader = ShardReader(index, self._names)
        infos = {name: index.datasets[name] for name in self._names}
        arrays = {name: np.empty((_AT_ONCE, *info.shape), info.dtype) for name, info in infos.items()}
        moments = Moments()
        mine = np.flatnonzero(index.shard == number)
        for start in range(0, len(mine), _AT_ONCE):
            positions = mine[start : start + _AT_ONCE]
            reader.read_into(positions, arrays, range(len(positions)))
            for slot, position in enumerate(positions.tolist()):
                for name, array in arrays.items():
                    moments.update(name, array[slot], index.level.item(position))
                tally.add(1, index.span_of(position))
        return moments.arrays()


def table_of(moments: Moments, splits: str) -> Table:
    """One row for each band; a band without valid pixels has no moments."""
    counts = moments.counts()
    rows: list[dict[str, Value]] = []
    for entry, table in moments.band_stats().items():
        names = _band_names(entry)
        for band, values in enumerate(zip(*(table[key] for key in _MEASURES), strict=True)):
            count = counts[entry][band] if entry in counts else 0
            row: dict[str, Value] = {"dataset": entry, "band": names.get(band, str(band)), "pixels": count}
            rows.append(row | (dict(zip(_MEASURES, values, strict=True)) if count else {}))
    return Table(f"mmae stats: split {splits}, in the units of the stored values", COLUMNS, rows, keys=2)


def _band_names(entry: str) -> dict[int, str]:
    """Names of the bands that a modality takes."""
    rows = [
        row for row in MODALITIES.values() if entry == row.dataset or (row.by_level and entry.startswith(row.dataset))
    ]
    return {band: name for row in rows for band, name in zip(row.bands, row.band_names, strict=True)}

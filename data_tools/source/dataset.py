"""MMEarth's HDF5 file and the three JSON files beside it, opened and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np
import xxhash

from data_tools.source.hdf5_faults import open_fault, read_fault
from data_tools.source.hdf5_links import check_own
from data_tools.source.json_files import read_band_stats, read_splits
from data_tools.source.metadata import read_metadata, read_rows, s2_levels
from data_tools.source.source_datasets import choose, contents, left_out
from data_tools.source.source_paths import SourcePaths, find_source
from data_tools.source.tile_info import TileInfo, read_tile_info
from mmae.data.sampling.shared_ground import footprint_km
from mmae.data.shards.index_json import DatasetInfo, SourceInfo
from mmae.disk.regular_file import open_regular, read_regular
from mmae.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLES: Final = 32
_SAMPLE_BYTES: Final = 1 << 16


@dataclass(frozen=True, eq=False)
class Source:
    """An opened MMEarth data set; a context manager that closes the file.

    Attributes:
        path: the HDF5 file.
        datasets: what to pack, in the order in which it is stored: those of modalities first.
        left_out: name -> why it is not packed, of everything else in the file.
        tile_ids: one a row; empty for a row that nobody filled.
        level: uint8 (rows,), index into `modalities.S2_LEVELS`.
        tile_info: tile id -> its entry in the tile_info file.
        band_stats: the band_stats file; it may lack datasets.
        splits: split -> source rows, int64.
        footprint_km: side of a tile on the ground, 0 where it holds no image.
        info: name, size, rows and fingerprint of the source.
    """

    path: Path
    file: h5py.File
    datasets: Mapping[str, DatasetInfo]
    left_out: Mapping[str, str]
    tile_ids: Sequence[str]
    level: NDArray[np.uint8]
    tile_info: TileInfo
    band_stats: Mapping[str, Any]
    splits: Mapping[str, NDArray[np.int64]]
    footprint_km: float
    info: SourceInfo

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def read(self, dataset: str, row: int) -> NDArray[Any]:
        """One tile of a dataset as it is stored, little-endian.

        Raises:
            InputError: the file is damaged at this tile.
        """
        try:
            value = np.asarray(self.file[dataset][row])
        except (OSError, RuntimeError) as error:
            where = f"{self.path}: row {row} (tile {self.tile_ids[row]}) of {dataset}"
            raise InputError(f"{where} {read_fault(error)}") from error
        return value.astype(value.dtype.newbyteorder("<"), copy=False)

    def read_all(self, dataset: str) -> NDArray[Any] | None:
        """All rows of a small dataset, packed or not; None if the file has no such dataset with one row a tile."""
        if dataset not in self.file or self.file[dataset].shape[:1] != (self.info.rows,):
            return None
        try:
            return read_rows(self.file[dataset])
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self.path}: {dataset} {read_fault(error)}") from error


def open_source(src: Path | str, datasets: Sequence[str] | None = None, splits: Path | str | None = None) -> Source:
    """Open NAME.h5 (or the folder that holds exactly one) with its JSON files and check them all.

    Args:
        datasets: names to pack; None takes every dataset with a row a tile that can be stored exactly.
        splits: the splits file where it is not `NAME_splits.json`.

    Raises:
        InputError: anything missing, damaged or contradictory, with the file and the remedy.
    """
    paths = find_source(Path(src), None if splits is None else Path(splits))
    try:
        file = h5py.File(paths.file, "r")
    except OSError as error:
        raise InputError(f"{paths.file}: {open_fault(error)}") from error
    try:
        return _check(paths, file, datasets)
    except BaseException:
        file.close()
        raise


def _check(paths: SourcePaths, file: h5py.File, datasets: Sequence[str] | None) -> Source:
    path = paths.file
    check_own(path, file)
    tile_ids, written = read_metadata(path, file)
    rows = len(tile_ids)
    found = contents(path, file, rows)
    chosen = choose(path, found, datasets)
    tile_info = read_tile_info(paths.tile_info)
    splits = read_splits(paths.splits, rows)
    # Rows in no split are not packed: MMEarth's tools leave some rows that they never filled.
    used = np.sort(np.concatenate(list(splits.values())))
    for row in used.tolist():
        if tile_ids[row] not in tile_info:
            raise InputError(
                f"{paths.tile_info}: no entry for tile {tile_ids[row]!r}: download it again, with {path.name}"
            )
    return Source(
        path=path,
        file=file,
        datasets={name: found.known[name] for name in chosen},
        left_out=left_out(found, chosen),
        tile_ids=tile_ids,
        level=s2_levels(path, tile_ids, written, tile_info.levels(tile_ids), used),
        tile_info=tile_info,
        band_stats=read_band_stats(paths.band_stats),
        splits=splits,
        footprint_km=footprint_km(found.known),
        info=SourceInfo(
            name=path.name,
            bytes=path.stat().st_size,
            rows=rows,
            fingerprint=fingerprint(path, found.known, tile_ids, paths[1:]),
        ),
    )


def fingerprint(path: Path, known: Mapping[str, DatasetInfo], tile_ids: Sequence[str], beside: Iterable[Path]) -> str:
    """Identity of the source, from samples: the hash of a whole file of hundreds of gigabytes would take too long."""
    hasher = xxhash.xxh3_128()
    described = {name: [info.dtype.str, list(info.shape)] for name, info in known.items()}
    size = path.stat().st_size
    hasher.update(json.dumps([size, described, list(tile_ids)], sort_keys=True).encode())
    for json_path in beside:
        hasher.update(read_regular(json_path))
    with open_regular(path) as file:
        for sample in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            hasher.update(file.read(_SAMPLE_BYTES))
    return hasher.hexdigest()
